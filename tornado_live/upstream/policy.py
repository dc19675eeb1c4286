"""The numbers that a link keeps to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """All durations in seconds.

    Attributes:
        max_message_s: audio in one upstream message.
        max_backlog_s: audio kept while there is no connection, or while it takes it too slowly.

        silence_after_s: a stream is over when it has been quiet for this long …
        silence_gap_factor: … and for this many times its longest gap between chunks.
        silence_after_unknown_s: the same until a gap is known.
        silence_piece_s: trailing silence is sent in such pieces, in real time.
        silence_burst_s: of the trailing silence, so much is sent at once where the end is certain.
        silence_max_s: of trailing silence, no more than this.

        backoff_s: pauses before the dials after a fault; each is drawn between 0 and its number, and
            the last one repeats.
        max_dials: dials that may follow faults …
        dial_window_s: … within this time.
        outage_max_s: without a connection for so long, the link gives up.
        first_outage_max_s: the same before the first connection, whose client is still waiting.
        stable_after_s: a connection that has lived so long ends an outage.
        max_resume_dials: so many dials with a handle may fail before one is made without it.

        rotate_margin_s: this long before a connection's maximum age, the link begins to look for a
            quiet moment.
        rotate_reserve_s: this long before it will be cut, a connection is replaced, quiet or not.
        quiet_s: the user has not been loud for so long.

        replay_max_s: audio of the open turn that is kept to be said again on a new connection.
        replay_lead_s: audio from before the user became loud that is kept with it.

        stall_s: a turn for which nothing has come for so long has stalled.
        thinking_stall_s: the same where the model has said that more is to follow.
        late_audio_s: audio that comes so soon after an interruption belongs to the interrupted turn.
        nudge: what the user is made to write, once, when the model owes an answer and ends its turn
            without one; None: nothing.
    """

    max_message_s: float = 0.5
    max_backlog_s: float = 60.0

    silence_after_s: float = 1.5
    silence_gap_factor: float = 2.0
    silence_after_unknown_s: float = 2.5
    silence_piece_s: float = 0.1
    silence_burst_s: float = 1.0
    silence_max_s: float = 3.0

    backoff_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    max_dials: int = 6
    dial_window_s: float = 30.0
    outage_max_s: float = 30.0
    first_outage_max_s: float = 2.5
    stable_after_s: float = 10.0
    max_resume_dials: int = 3

    rotate_margin_s: float = 60.0
    rotate_reserve_s: float = 10.0
    quiet_s: float = 0.7

    replay_max_s: float = 10.0
    replay_lead_s: float = 1.0

    stall_s: float = 15.0
    thinking_stall_s: float = 60.0
    late_audio_s: float = 2.0
    nudge: str | None = None
