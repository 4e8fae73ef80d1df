import pytest

from penstock.core.lane import Lanes
from penstock.demo.progress import Progress
from penstock.demo.report import show_report
from penstock.demo.screen import Screen, line
from penstock.demo.tally import Tally
from penstock.kafka.topics import Cluster
from penstock.settings import KafkaSettings

TOTALS = {"cost_usd": 1.5, "saving_usd": 1.5, "unpriced_tokens": 70, "unpriced_models": ["davinci-002"]}
LEFT_OUT = "not counted: 70 tokens of davinci-002, whose batch price is not known"


@pytest.mark.parametrize(("totals", "shown"), [(TOTALS, True), (TOTALS | {"unpriced_tokens": 0}, False)])
def test_the_report_says_what_its_money_leaves_out(
    totals: dict[str, object], shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(Tally(KafkaSettings(), Cluster("cluster", {})), Lanes(), 1)
    progress.totals = totals
    show_report(Screen(), progress)
    assert (LEFT_OUT in capsys.readouterr().out) == shown
    assert (LEFT_OUT in line(progress)) == shown
