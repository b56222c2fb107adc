"""The life of a job is a table."""

from gsi.jobs.state import TRANSITIONS, JobState

FOLLOWING: dict[JobState | None, set[JobState | None]] = {  # by state, where the scripts together may move a job
    state: {after for moves in TRANSITIONS.values() for after in moves.get(state, ())} - {None}
    for state in (None, *JobState)
}


def test_the_future_of_every_state_is_decided() -> None:
    """A job leaves these states; it stays in every other one."""
    assert {state for state, after in FOLLOWING.items() if after} == {
        None,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.DEAD,
    }


def test_a_finished_job_stays_finished() -> None:
    """No finished state leads anywhere, except that a person may retry a dead job."""
    finished = {state for state in JobState if state.is_finished}
    assert finished == set(JobState) - {JobState.QUEUED, JobState.RUNNING}
    assert {state: FOLLOWING[state] for state in finished if FOLLOWING[state]} == {JobState.DEAD: {JobState.QUEUED}}


def test_every_state_can_be_reached_from_the_beginning() -> None:
    """A state that no job can reach is dead code."""
    reached: set[JobState | None] = {None}
    while (grown := reached | {after for before in reached for after in FOLLOWING[before]}) != reached:
        reached = grown
    assert reached == set(FOLLOWING)


def test_a_job_runs_before_it_succeeds() -> None:
    """SUCCEEDED follows RUNNING and nothing else."""
    assert {state for state, after in FOLLOWING.items() if JobState.SUCCEEDED in after} == {JobState.RUNNING}
