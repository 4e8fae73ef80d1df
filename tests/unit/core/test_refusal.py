import pytest

from penstock.core.batch import BatchError, Remedy, remedy_of_call
from penstock.core.refusal import TABLE, Concern, Refusal, account_fix, concern_of, line_named

UPLOAD, CREATE = "files.create", "batches.create"
ROWS = [
    (Refusal("batches.list", 302), Concern.CONFIGURATION),
    (Refusal(CREATE, 401, "invalid_api_key"), Concern.ACCOUNT),
    (Refusal("files.content", 402), Concern.ACCOUNT),
    (Refusal("batches.retrieve", 403), Concern.ACCOUNT),
    (Refusal(CREATE, 429, "insufficient_quota"), Concern.ACCOUNT),
    (Refusal(CREATE, 400, "billing_hard_limit_reached"), Concern.ACCOUNT),
    (Refusal(UPLOAD, 400, "billing_not_active"), Concern.ACCOUNT),
    (Refusal(UPLOAD, 400, "quotaExceeded"), Concern.ACCOUNT),
    (Refusal(UPLOAD, 400, "400", "You have exceeded your file storage quota."), Concern.ACCOUNT),
    (Refusal(CREATE, 400, "token_limit_exceeded"), Concern.QUOTA),
    (Refusal(CREATE, 429, "token_limit_exceeded"), Concern.QUOTA),
    (Refusal(UPLOAD, 413), Concern.SIZE),
    (Refusal(CREATE, 413), Concern.SIZE),
    (Refusal(UPLOAD, 400, "400", "File is too large."), Concern.SIZE),
    (Refusal(CREATE, 400, "400", "Cannot find file file-1, or project p does not have access to it."), Concern.FILE),
    (Refusal(CREATE, 404, "404", "No such File object: file-1"), Concern.FILE),
    (Refusal(CREATE, 400, "400", "The file file-1 is not processed yet."), Concern.FILE),
    (Refusal(CREATE, 408), Concern.MOMENT),
    (Refusal(UPLOAD, 429, "rate_limit_exceeded"), Concern.MOMENT),
    (Refusal(CREATE, 498), Concern.MOMENT),
    (Refusal("batches.list", 503), Concern.MOMENT),
    (Refusal(CREATE, 529), Concern.MOMENT),
    (Refusal(CREATE, 400, "invalid_json_line", line=3), Concern.REQUEST),
    (Refusal(UPLOAD, 400, "400", line=1), Concern.REQUEST),
    (Refusal(CREATE, 400, "400", "Input file line 3: model 'x' not found", line=3), Concern.REQUEST),
    (Refusal(CREATE, 404, "model_not_found"), Concern.LANE),
    (Refusal(CREATE, 404, "model_not_found", "Input file error: the model was not found."), Concern.LANE),
    (Refusal(CREATE, 400, "invalid_url"), Concern.LANE),
    (Refusal(CREATE, 400, "invalid_endpoint"), Concern.LANE),
    (Refusal(CREATE, 400, "url_mismatch"), Concern.LANE),
    (Refusal("batches.retrieve", 404), Concern.OBJECT),
    (Refusal("files.content", 404), Concern.OBJECT),
    (Refusal("batches.cancel", 404), Concern.OBJECT),
    (Refusal("files.delete", 404), Concern.OBJECT),
    (Refusal(CREATE, 422, "odd"), Concern.UNKNOWN),
    (Refusal(CREATE, 404, "404", "Not Found"), Concern.UNKNOWN),
]


@pytest.mark.parametrize(("refusal", "concern"), ROWS, ids=lambda each: str(each)[:60])
def test_a_refusal_concerns_what_its_row_says(refusal: Refusal, concern: Concern) -> None:
    assert concern_of(refusal) is concern


def test_every_row_of_the_table_is_met() -> None:
    met = {next(index for index, rule in enumerate(TABLE) if rule.matches(refusal)) for refusal, _ in ROWS}
    assert met == set(range(len(TABLE)))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ({"line": 7}, 7),
        ({"message": "Invalid JSON on line 12."}, 12),
        ({"message": "Line: 3 has no model"}, 3),
        ({"message": "The headline 3 is odd"}, None),
        ({"line": 0}, None),
        ({"line": True, "message": None}, None),
        ({}, None),
    ],
)
def test_the_line_that_a_refusal_names_is_read(error: dict[str, object], line: int | None) -> None:
    assert line_named(error) == line


@pytest.mark.parametrize(
    ("concern", "requests", "line", "action"),
    [
        (Concern.QUOTA, 1, None, Remedy.AGAIN_SMALLER),
        (Concern.SIZE, 2, None, Remedy.HALVE),
        (Concern.SIZE, 1, None, Remedy.ANSWER_ALL),
        (Concern.FILE, 9, None, Remedy.AGAIN),
        (Concern.LANE, 9, None, Remedy.ANSWER_ALL),
        (Concern.REQUEST, 9, 4, Remedy.ANSWER_LINE),
        (Concern.REQUEST, 1, 1, Remedy.ANSWER_ALL),
        (Concern.REQUEST, 9, 10, Remedy.HALT_LANE),
        (Concern.UNKNOWN, 9, None, Remedy.HALT_LANE),
    ],
)
def test_a_refused_call_has_its_action(concern: Concern, requests: int, line: int | None, action: Remedy) -> None:
    error = BatchError("odd", "It is odd.", line)
    assert remedy_of_call(concern, error, requests=requests, lines_lost=0, creates=0) is action


def test_an_operator_is_told_what_to_do_about_a_refused_account() -> None:
    assert "base URL" in account_fix(CREATE, "redirect")
    assert "budget" in account_fix(CREATE, "insufficient_quota")
    assert "files" in account_fix(UPLOAD, "400")
    assert "key" in account_fix(CREATE, "401")
