import pytest

transformers = pytest.importorskip("transformers", minversion="5.4")


def pytest_report_header() -> str:
    return f"transformers {transformers.__version__}"
