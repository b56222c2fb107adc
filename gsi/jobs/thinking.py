"""The reasoning trace of a thinking model, such as Qwen3: what it writes before ``</think>``, apart from its answer."""

BEGIN, END = "<think>", "</think>"


def split_reasoning(text: str, thinking: bool | None) -> tuple[str, str]:
    """Return the reasoning trace of a text, and the answer behind it; "" for what is not there (yet).

    ``thinking`` is the job's parameter. True: the text begins inside a trace, as the prompts of some templates do;
    None: it does if it begins with ``<think>``; False: the whole text is the answer.
    """
    begun = text.lstrip()
    if thinking is False or not (thinking or begun.startswith(BEGIN)):
        return "", text
    reasoning, _, answer = begun.removeprefix(BEGIN).partition(END)
    return reasoning.strip("\n"), answer.lstrip("\n")
