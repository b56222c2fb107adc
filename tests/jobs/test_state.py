"""The life of a job is a table."""

from gsi.jobs.state import TRANSITIONS, JobState, states_before


def test_every_state_has_a_row() -> None:
    """A state without a row would have an undecided future."""
    assert set(TRANSITIONS) == {None, *JobState}


def test_a_finished_job_stays_finished() -> None:
    """No state that ends a job leads anywhere, but that a person may have a dead one tried again."""
    finished = {state for state in JobState if state.is_finished}
    assert finished == set(JobState) - {JobState.QUEUED, JobState.RUNNING}
    assert {state: TRANSITIONS[state] for state in finished if TRANSITIONS[state]} == {JobState.DEAD: {JobState.QUEUED}}


def test_every_state_can_be_reached_from_the_beginning() -> None:
    """A state that no job can get into is dead code."""
    reached: set[JobState | None] = {None}
    while (grown := reached | {after for before in reached for after in TRANSITIONS[before]}) != reached:
        reached = grown
    assert reached == set(TRANSITIONS)


def test_a_job_runs_before_it_succeeds() -> None:
    """SUCCEEDED follows RUNNING and nothing else."""
    assert states_before(JobState.SUCCEEDED) == {JobState.RUNNING}
