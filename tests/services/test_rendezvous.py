"""Which replica a job's call goes to, by its order of the replicas and the calls in flight."""

from collections import Counter

import pytest

from gsi.rpc.rendezvous import BOUND, Choice, choose_replica, order_replicas

ADDRESSES = ("ipv4:10.0.0.1:50051", "ipv4:10.0.0.2:50051", "ipv4:10.0.0.3:50051")
JOBS = [f"job-{number}" for number in range(3000)]


def test_jobs_are_spread_evenly_over_their_homes() -> None:
    """Of 3,000 jobs each of three replicas is home to a third, give or take four standard deviations."""
    homes = Counter(order_replicas(job, ADDRESSES)[0] for job in JOBS)
    assert set(homes) == set(ADDRESSES)
    assert all(abs(number - 1000) < 4 * (3000 * 2 / 9) ** 0.5 for number in homes.values())


def test_the_order_of_the_addresses_does_not_matter() -> None:
    """Two coordinators that were told the addresses in another order agree on every job."""
    assert all(order_replicas(job, ADDRESSES) == order_replicas(job, ADDRESSES[::-1]) for job in JOBS)


def test_a_new_replica_takes_only_jobs_that_move_to_it() -> None:
    """Every job keeps its home or moves to the new replica, and a quarter of the jobs moves."""
    grown = (*ADDRESSES, "ipv4:10.0.0.4:50051")
    before = {job: order_replicas(job, ADDRESSES)[0] for job in JOBS}
    moved = [job for job in JOBS if order_replicas(job, grown)[0] != before[job]]
    assert {order_replicas(job, grown)[0] for job in moved} == {grown[-1]}
    assert abs(len(moved) - 750) < 4 * (3000 * 3 / 16) ** 0.5


def test_a_job_whose_home_is_lost_goes_to_the_next_replica_of_its_order() -> None:
    """The jobs of a lost replica are spread over both others."""
    lost = ADDRESSES[0]
    orphans = [job for job in JOBS if order_replicas(job, ADDRESSES)[0] == lost]
    chosen = [choose_replica(job, ADDRESSES, ADDRESSES[1:], {}) for job in orphans]
    assert chosen == [(order_replicas(job, ADDRESSES)[1], Choice.LOST) for job in orphans]
    assert {address for address, _ in chosen} == set(ADDRESSES[1:])


@pytest.mark.parametrize("num_calls", [1, 2, 7, 24, 301])
def test_no_replica_gets_more_than_its_share(num_calls: int) -> None:
    """The calls of a single job, all at once, fill its home to 1.25 times the mean, and then the next replicas."""
    calls: Counter[str] = Counter()
    choices: Counter[Choice] = Counter()
    for _ in range(num_calls):
        address, choice = choose_replica("job", ADDRESSES, ADDRESSES, calls)
        calls[address] += 1
        choices[choice] += 1
    home = order_replicas("job", ADDRESSES)[0]
    assert calls[home] == max(calls.values()) == choices[Choice.HOME]
    assert max(calls.values()) < BOUND * num_calls / 3 + 1
    assert choices[Choice.LOST] == 0


def test_lost_replicas_do_not_count_for_the_mean() -> None:
    """With one replica left, all calls go to it, whatever was in flight elsewhere."""
    assert choose_replica("job", ADDRESSES, ADDRESSES[:1], dict.fromkeys(ADDRESSES, 100))[0] == ADDRESSES[0]
