"""A question about a picture, and the instruction around it.

Real instructions are long and mostly beside the point: politeness, formats, a clause about
something else. Which of their tokens know what is asked is what an observation window has to find
out, so the question stands at any place among clauses that do not change the answer.
"""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    answer: str


POLITE = [
    "please",
    "please be so kind and help me",
    "good morning",
    "hello",
    "thank you very much for your help",
    "many thanks in advance",
    "i hope you are well today",
    "take all the time that you need",
    "i would be very grateful for an answer",
]
FORMAT = [
    "answer in one line",
    "use lower case words and do not add a comment",
    "do not explain how you found it",
    "write the answer as plain text",
    "keep the answer short",
    "do not repeat the question",
    "no introduction is needed",
    "give the answer only, without any other words",
]
BESIDE = [
    "i found this picture in an old book at home",
    "my sister will send you another letter about the garden",
    "the weather was fine when it was made",
    "we will talk about the price of the house next week",
    "the file came with a long mail that i have not read",
    "somebody said that the paper was wet, but this does not matter",
    "my colleague needs the result for a talk on monday",
    "a second copy is kept in the office, and it looks the same",
    "i have shown it to a friend before",
    "the train to the city was late again, so i write from my phone",
    "it was scanned in a hurry, so some lines may be pale",
    "later i will ask you about something else",
    "you may forget what i told you about the music",
    "the dog is asleep and the coffee is still hot",
]


def instruction(question: str, rng: Random, clauses: int) -> str:
    """``question`` with up to ``clauses`` clauses that do not matter before and behind it."""
    parts = [rng.choice(rng.choice((POLITE, FORMAT, BESIDE))) for _ in range(clauses)]
    parts.insert(rng.randint(0, clauses), question)
    return "".join(part + (" " if part.endswith("?") else ". ") for part in parts).strip()
