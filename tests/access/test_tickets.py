"""Tickets: once, soon, and from the page they were made for."""

from __future__ import annotations

from tornado_live.access.tickets import TicketOffice

PAGE = "https://good.example"


def test_a_ticket_is_good_once(clock) -> None:
    office = TicketOffice[str](30.0, clock=clock)
    ticket = office.issue("somebody", PAGE)
    assert office.redeem(ticket, PAGE) == "somebody"
    assert [office.redeem(ticket, PAGE) for _ in range(1000)] == [None] * 1000


def test_a_ticket_is_too_old_after_its_lifetime(clock) -> None:
    office = TicketOffice[str](30.0, clock=clock)
    ticket, later = office.issue("somebody", PAGE), office.issue("somebody", PAGE)
    clock.advance(29.9)
    assert office.redeem(ticket, PAGE) == "somebody"
    clock.advance(0.1)
    assert office.redeem(later, PAGE) is None


def test_a_stolen_ticket_is_worthless_from_another_page_and_then_from_its_own(clock) -> None:
    office = TicketOffice[str](30.0, clock=clock)
    ticket = office.issue("somebody", PAGE)
    assert office.redeem(ticket, "https://evil.example") is None
    assert office.redeem(ticket, PAGE) is None


def test_a_ticket_for_no_page_is_not_good_from_one(clock) -> None:
    office = TicketOffice[str](30.0, clock=clock)
    assert office.redeem(office.issue("a", None), PAGE) is None
    assert office.redeem(office.issue("a", None), None) == "a"


def test_a_ticket_holds_256_random_bits(clock) -> None:
    office = TicketOffice[str](30.0, clock=clock)
    tickets = {office.issue("a", PAGE) for _ in range(1000)}
    assert len(tickets) == 1000
    assert {len(ticket) for ticket in tickets} == {len("wt_") + 43}


def test_unused_tickets_are_forgotten(clock) -> None:
    office = TicketOffice[str](30.0, clock=clock)
    for _ in range(100):
        office.issue("a", PAGE)
    clock.advance(31)
    last = office.issue("a", PAGE)
    assert len(office) == 1
    assert office.redeem(last, PAGE) == "a"
