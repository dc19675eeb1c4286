from __future__ import annotations

from tornado_live.upstream.policy import LinkPolicy
from tornado_live.upstream.rotation import Rotation


def rotation(max_age_s: float = 600.0) -> Rotation:
    return Rotation(LinkPolicy(), opened_at=1000.0, max_age_s=max_age_s)


def test_a_young_connection_stays() -> None:
    assert not rotation().due(1500.0, quiet=True)


def test_a_minute_before_its_end_a_quiet_moment_is_enough() -> None:
    assert rotation().due(1541.0, quiet=True)
    assert not rotation().due(1541.0, quiet=False)


def test_ten_seconds_before_its_end_it_is_left_whatever_goes_on() -> None:
    assert not rotation().due(1589.0, quiet=False)
    assert rotation().due(1590.0, quiet=False)


def test_go_away_counts_from_now() -> None:
    one = rotation()
    one.go_away(1100.0, 50.0)
    assert one.due(1100.0, quiet=True)
    assert not one.due(1139.0, quiet=False)
    assert one.due(1140.0, quiet=False)


def test_a_short_notice_is_used_up_to_three_quarters() -> None:
    one = rotation()
    one.go_away(1100.0, 4.0)
    assert not one.due(1102.9, quiet=False)
    assert one.due(1103.0, quiet=False)


def test_no_notice_means_now() -> None:
    one = rotation()
    one.go_away(1100.0, 0.0)
    assert one.due(1100.0, quiet=False)


def test_go_away_never_prolongs_a_life() -> None:
    one = rotation()
    one.go_away(1100.0, 10_000.0)
    assert one.due(1590.0, quiet=False)


def test_a_short_life_is_not_all_margin() -> None:
    assert not rotation(10.0).due(1004.9, quiet=True)
    assert rotation(10.0).due(1005.0, quiet=True)
    assert not rotation(10.0).due(1007.4, quiet=False)
    assert rotation(10.0).due(1007.5, quiet=False)
