from __future__ import annotations

import pytest

from tornado_live.errors import (
    UpstreamError,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tornado_live.upstream.closing import ConnectionClosed
from tornado_live.upstream.dialling import Outage, Redial
from tornado_live.upstream.policy import LinkPolicy

LOST = ConnectionClosed(1006)
BACKEND = ConnectionClosed(1011, "Internal error occurred.")
DEAD_HANDLE = ConnectionClosed(1008, "BidiGenerateContent session not found")


class Story:
    """An outage told with a clock of its own and no luck: every pause is as long as it may be."""

    def __init__(self) -> None:
        self.outage = Outage(LinkPolicy(), draw=lambda _, longest: longest)
        self.now = 1000.0

    def connects(self) -> None:
        self.outage.dialled(self.now)
        self.outage.connected(self.now)

    def lives(self, seconds: float) -> None:
        self.now += seconds

    def fails(self, error: UpstreamError, *, resuming: bool = True) -> Redial:
        redial = self.outage.next(error, resuming=resuming, now=self.now)
        self.now += redial.delay_s
        return redial

    def dial_fails(self, error: UpstreamError, *, resuming: bool = True) -> Redial:
        self.outage.dialled(self.now)
        return self.fails(error, resuming=resuming)

    def dials_until_it_gives_up(self, *, resuming: bool = True) -> list[float]:
        """When it dialled, if nobody ever answers."""
        dials = []
        try:
            while True:
                dials.append(self.now)
                self.dial_fails(UpstreamUnavailable(), resuming=resuming)
        except UpstreamUnavailable:
            return dials

    def is_cut_half_a_second_after_each_dial(self) -> None:
        while True:
            self.fails(BACKEND)
            self.connects()
            self.lives(0.5)


@pytest.fixture
def story() -> Story:
    story = Story()
    story.connects()
    story.lives(60)
    return story


def test_pauses_grow_and_then_stay(story: Story) -> None:
    pauses = [story.fails(LOST).delay_s] + [story.dial_fails(UpstreamUnavailable()).delay_s for _ in range(4)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0]


def test_pauses_are_drawn_between_nothing_and_their_length() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(shortest: float, longest: float) -> float:
        drawn.append((shortest, longest))
        return 0.0

    outage = Outage(LinkPolicy(), draw=draw)
    outage.dialled(0.0)
    outage.connected(0.0)
    for number in range(5):
        outage.next(LOST, resuming=False, now=20.0 + number)
        outage.dialled(20.0 + number)
    assert drawn == [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.0, 4.0)]


def test_no_more_than_six_dials_fall_into_thirty_seconds_and_then_it_gives_up(story: Story) -> None:
    story.lives(600)
    began_at = story.now
    story.fails(LOST)
    dials = story.dials_until_it_gives_up()
    assert all(sum(at <= other < at + 30 for other in dials) <= 6 for at in dials)
    assert story.now - began_at <= 30


def test_a_connection_that_is_accepted_and_cut_again_and_again_is_given_up(story: Story) -> None:
    began_at = story.now
    with pytest.raises(UpstreamUnavailable):
        story.is_cut_half_a_second_after_each_dial()
    assert story.now - began_at <= 35


def test_a_connection_that_lived_ends_the_outage(story: Story) -> None:
    for _ in range(30):
        assert story.fails(LOST).delay_s == 0.5
        story.connects()
        story.lives(40)


def test_planned_dials_are_no_outage(story: Story) -> None:
    for _ in range(12):
        story.connects()
        story.lives(5)
    assert story.dial_fails(LOST).attempt == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionClosed(1007, "Thinking level is not supported for this model"), UpstreamRefused),
        (UpstreamRefused(), UpstreamRefused),
    ],
)
def test_a_refusal_is_not_tried_again(story: Story, error: UpstreamError, told: type[UpstreamError]) -> None:
    with pytest.raises(told):
        story.fails(error)


@pytest.mark.parametrize("error", [UpstreamQuota(retry_after_s=5), ConnectionClosed(1011, "quota")])
def test_a_used_up_quota_is_fatal_to_a_new_conversation(error: UpstreamError) -> None:
    with pytest.raises(UpstreamQuota):
        Story().dial_fails(error, resuming=False)


def test_a_running_conversation_waits_for_quota_as_long_as_it_is_told_and_may(story: Story) -> None:
    assert story.fails(ConnectionClosed(1011, "quota", retry_after_s=5)).delay_s == 5
    assert story.dial_fails(UpstreamQuota(retry_after_s=10)).delay_s == 10
    with pytest.raises(UpstreamQuota):
        story.dial_fails(UpstreamQuota(retry_after_s=20))


def test_a_refused_handle_is_dropped_for_one_fresh_dial(story: Story) -> None:
    assert not story.fails(LOST).fresh
    assert story.dial_fails(DEAD_HANDLE).fresh
    with pytest.raises(UpstreamRefused):
        story.dial_fails(DEAD_HANDLE, resuming=False)


def test_a_connection_that_ends_in_a_state_of_no_use_is_followed_by_a_fresh_one(story: Story) -> None:
    assert story.fails(ConnectionClosed(1007, "Request contains an invalid argument."), resuming=False).fresh


def test_a_set_up_that_is_refused_at_the_first_dial_is_refused() -> None:
    with pytest.raises(UpstreamRefused):
        Story().dial_fails(ConnectionClosed(1007, "Request contains an invalid argument."), resuming=False)


def test_a_backend_that_will_not_resume_is_asked_afresh_in_the_end(story: Story) -> None:
    story.fails(BACKEND)
    assert [story.dial_fails(BACKEND).fresh for _ in range(3)] == [False, False, True]


def test_before_the_first_connection_it_gives_up_while_the_client_is_still_waiting() -> None:
    story = Story()
    began_at = story.now
    dials = story.dials_until_it_gives_up(resuming=False)
    assert len(dials) > 1
    assert story.now - began_at <= 2.5


def test_a_first_dial_that_timed_out_is_the_only_one() -> None:
    story = Story()
    story.outage.dialled(story.now)
    story.lives(10)
    with pytest.raises(UpstreamTimeout):
        story.fails(UpstreamTimeout(), resuming=False)
