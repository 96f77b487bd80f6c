"""How much of a model's accuracy survives compression: any local checkpoint, any local data.

``python -m aircache_ext evaluate`` asks a checkpoint the questions of a JSONL file over the full
cache and over compressed ones, and gives a table, a JSON file and a plot (docs/evaluation.md). In
the order of a run:

* ``data``: the questions, from a file;
* ``variants``: the caches that are compared;
* ``answers``: what the model says over each of them;
* ``store``: the answers on disk, where a second run finds them, by whole ``lines``;
* ``metrics``: how right an answer is;
* ``records``: the scores of one variant on one family of questions, where every comparison begins;
* ``intervals``, ``summary``: means and paired differences with 95 % intervals;
* ``table``, ``plot``: both for people to read;
* ``report``: all that records leave behind, whoever made them;
* ``command``: all of it together.

Only ``answers`` needs transformers and Pillow, only ``plot`` matplotlib.
"""

from aircache_ext.evaluate.records import Record

__all__ = ["Record"]
