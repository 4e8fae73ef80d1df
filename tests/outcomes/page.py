"""docs/outcomes.md, from the rows and the marks: `python -m tests.outcomes.page` writes it, a unit test compares it."""

from pathlib import Path

from tests.outcomes.table import SECTIONS, marked

PAGE = Path(__file__).parents[2] / "docs" / "outcomes.md"
INTRODUCTION = """# Outcomes and bounds

<!-- Written from tests/outcomes and the marks of the tests by `make docs`. -->

Everything that the Batch API is known to answer, that a producer may send, and that can run full, go away or lose data
around Penstock: what it makes of it, and the test that proves it. The rows are listed in `tests/outcomes`; a test says
by `@pytest.mark.outcome("name")` which of them it proves, and `pytest --outcome NAME` runs those of one row. A row
without a test, a mark without a row or a page that is stale fails the unit tests. The tests run real servers against
the [simulator](../service/batchsim/README.md), whose manual has the rule that makes each outcome at the provider;
those in `tests/unit` and `tests/simulation` prove a rule for more cases than servers can be asked for, those in
`tests/long`, and those marked `long`, take minutes (`make long`).
"""


def page() -> str:
    """The page as it should be."""
    tests = marked()
    lines = [INTRODUCTION]
    for section, groups in SECTIONS.items():
        lines.append(f"## {section}\n")
        for title, group in groups.items():
            lines += [f"### {title}\n", "| row | what happens | what Penstock does | proven by |", "|---|---|---|---|"]
            for row in group:
                proven = "<br>".join(f"`{test}`" for test in tests.get(row.name, ()))
                lines.append(f"| {row.name} | {row.happens} | {row.does} | {proven} |")
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
