"""How a reward model reads a trajectory, and how its outputs become a reward: what a profile says, done.

A trajectory is read as a prefix, which is the conversation and the kept steps, and a candidate behind the prefix. The
reward comes from the outputs at the candidate's last token. The prefix of a step begins with the prefix of the step
before, so an engine may keep what it has read.
"""

import math
from collections.abc import Sequence

from transformers import PretrainedConfig

from gsi.algorithm.candidates import Message
from gsi.algorithm.weighting import logistic
from gsi.engines.base import EngineSettings, Reading
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.reward_profile import (
    Combine,
    Form,
    Output,
    Rates,
    Reward,
    RewardProfile,
    Strip,
    Tokenised,
    find_profile,
    is_classifier,
    load_profile,
    ready_profiles,
)
from gsi.errors import InternalError, MisconfiguredError

# Architectures, as the config.json of a checkpoint names them.
QWEN_PROCESS_REWARD = "Qwen2ForProcessRewardModel"
SKYWORK_PROCESS_REWARD = "Qwen2ForPrmModel"
LANGUAGE_MODEL = "ForCausalLM"  # the end of the name
FAMILIES = ", ".join(dict.fromkeys(name for profile in ready_profiles() for name in profile.architectures))
BY_NAME = ", ".join(profile.name for profile in ready_profiles() if profile.output.read is Output.TOKENS)

ANCHOR = "\n"  # what a part stands behind, for the tokenizer, where a profile names no other text


def read_architecture(settings: EngineSettings) -> tuple[str, int]:
    """Return the first architecture in a checkpoint's config.json ("none" without any), and its number of labels."""
    described, _ = PretrainedConfig.get_config_dict(settings.model, revision=settings.revision)
    config = PretrainedConfig.from_dict(described)  # applies the rules of transformers for labels
    return next(iter(config.architectures or ["none"])), config.num_labels


def choose_profile(
    architecture: str, num_labels: int, model: str, reading: Reading = Reading.MODEL_CARD, name: str = ""
) -> RewardProfile | None:
    """Return the profile of a name, or the one that recognises an architecture; None if none does.

    ``num_labels``: the outputs of a classifier, by its config; ``model``: the checkpoint's name, for errors. Raises
    MisconfiguredError for a profile that does not fit the checkpoint, and for a reading that the profile does not have.
    """
    profile = load_profile(name) if name else find_profile(architecture, num_labels)
    if reading is Reading.AUTHORS and (profile is None or not (profile.authors or profile.reading)):
        with_authors = [found for found in ready_profiles() if found.authors]
        allowed = ", ".join(architecture for found in with_authors for architecture in found.architectures)
        raise MisconfiguredError(
            f"reading: authors is not allowed for {model}, a {architecture}; allowed: model-card (authors: {allowed})"
        )
    if profile is None:
        if is_classifier(architecture):
            raise MisconfiguredError(f"{model} has {num_labels} labels; allowed for a reward: 1 value, or 2 labels")
        return None
    if reading is Reading.AUTHORS and profile.authors:
        profile = load_profile(profile.authors)
    _check_fit(profile, architecture, num_labels, model)
    return profile


def _check_fit(profile: RewardProfile, architecture: str, num_labels: int, model: str) -> None:
    """Raise MisconfiguredError if a checkpoint does not have the outputs that the profile reads."""
    is_language_model = architecture.endswith(LANGUAGE_MODEL)
    if is_language_model != (profile.output.read is Output.TOKENS):
        reads = f"reads {profile.output.read.value}"
        allowed = f"*{LANGUAGE_MODEL}" if profile.output.read is Output.TOKENS else "a model with a head"
        raise MisconfiguredError(f"profile: {profile.name} {reads}; {model} is a {architecture}; allowed: {allowed}")
    if is_classifier(architecture) and num_labels != profile.output.num_outputs:
        raise MisconfiguredError(
            f"profile: {profile.name} reads {profile.output.num_outputs} outputs; {model} has {num_labels} labels"
        )


class RewardFamily:
    """Reads trajectories for the models of one profile, with the tokenizer of one checkpoint.

    ``reading`` tells a result how steps were read: "authors", the name of a profile that was asked for by name, or "".
    """

    def __init__(self, profile: RewardProfile, tokenizer: Tokenizer, model: str, *, is_named: bool = False) -> None:
        self.profile = profile
        self.reading = profile.reading or (profile.name if is_named else "")
        self.is_bounded = profile.is_bounded
        self.label_token_ids = _find_label_tokens(profile, tokenizer, model)
        self._tokenizer = tokenizer
        self._mark = self._find_mark(model)
        self._after_mark: tuple[int, ...] = ()
        self._closing: tuple[int, ...] = ()
        if profile.conversation.form is Form.TURNS:
            between, self._closing = tokenizer.render_turn(profile.conversation.turn)
            self._after_mark = between[len(self._closing) :]
            if between[: len(self._closing)] != self._closing:
                raise MisconfiguredError(
                    f"profile: {profile.name} needs a chat template that begins each answer of the assistant in the "
                    f"same way; that of {model} does not"
                )
        elif profile.steps.rates is Rates.ANSWER:
            self._closing = tokenizer.close_answer()
        elif profile.steps.after_mark:
            self._after_mark = self._encode(profile.steps.after_mark, behind=profile.steps.mark or ANCHOR)

    def prefix(self, messages: Sequence[Message], steps: Sequence[str]) -> list[int]:
        """Return the token ids of conversation and kept steps."""
        token_ids = list(self._conversation(messages))
        for number, step in enumerate(steps):
            token_ids += self._kept(step, is_first=number == 0)
        return token_ids

    def candidate(self, text: str, *, is_first: bool = False) -> list[int]:
        """Return the token ids of a candidate behind its prefix; ``is_first``: there are no kept steps."""
        steps = self.profile.steps
        text = _strip(text, steps.strip)
        return [*self._parts(self._begin(text, is_first=is_first)), *(self._mark or self._closing)]

    def places(self, candidate: Sequence[int]) -> list[int]:
        """Return where in a candidate's token ids the outputs are read: at its last token, or at each of its marks."""
        last = len(candidate) - 1
        if self.profile.output.combine is Combine.LAST:
            return [last]
        length = len(self._mark)
        return [i + length - 1 for i in range(len(candidate)) if tuple(candidate[i : i + length]) == self._mark]

    def reward(self, outputs: Sequence[float]) -> float:
        """Return the reward from the model's raw outputs at one place. Raises ValueError for another number of them."""
        output = self.profile.output
        if len(outputs) != output.num_outputs:
            raise ValueError(f"the reward model gave {len(outputs)} values; its profile reads {output.num_outputs}")
        if output.reward is Reward.RAW:
            return outputs[0]
        if output.reward is Reward.LOGISTIC:
            return logistic(outputs[0])
        is_tokens = output.read is Output.TOKENS
        good = set(range(len(output.good_tokens))) if is_tokens else set(output.good_labels)
        return _softmax_of(good, outputs)

    def combine(self, rewards: Sequence[float]) -> float:
        """Return the candidate's reward from those at its places."""
        if self.profile.output.combine is Combine.MEAN:
            return math.fsum(rewards) / len(rewards)
        return min(rewards) if self.profile.output.combine is Combine.MINIMUM else rewards[-1]

    def _conversation(self, messages: Sequence[Message]) -> Sequence[int]:
        conversation = self.profile.conversation
        if conversation.form is Form.TEMPLATE:
            return self._tokenizer.render(messages)
        if conversation.form is Form.TURNS:
            return self._tokenizer.render_open(messages)
        problem = "\n".join(message.content for message in messages if message.role == "user")
        return [*self._tokenizer.begin_token_ids, *self._tokenizer.encode(f"{problem}{conversation.problem_end}")]

    def _kept(self, step: str, *, is_first: bool) -> list[int]:
        """Return the token ids of a kept step: its text as it is where it has no mark, else as the candidate was."""
        steps = self.profile.steps
        if steps.separator or steps.rates is Rates.ANSWER or not steps.mark_kept:
            return self._parts(self._begin(step, is_first=is_first))
        return [*self.candidate(step, is_first=is_first), *self._after_mark]

    def _begin(self, text: str, *, is_first: bool) -> str:
        return f"{self.profile.conversation.before_first_step}{text}" if is_first else text

    def _parts(self, text: str) -> list[int]:
        """Return the token ids of a text with a mark in place of each separator."""
        separator = self.profile.steps.separator
        first, *others = text.split(separator) if separator else [text]
        token_ids = list(self._encode(first))
        for part in others:
            token_ids += [*self._mark, *self._encode(part)]
        return token_ids

    def _find_mark(self, model: str) -> tuple[int, ...]:
        steps = self.profile.steps
        if not steps.mark_token:
            mark = self._encode(steps.mark, behind="a") if steps.mark else ()
            return mark[-1:] if steps.mark_last_token else mark
        mark_id = self._tokenizer.token_id(steps.mark_token)
        if mark_id is None:
            raise MisconfiguredError(
                f"{model} has no token {steps.mark_token}: not a PRM that profile {self.profile.name} can read"
            )
        return (mark_id,)

    def _encode(self, text: str, behind: str = ANCHOR) -> tuple[int, ...]:
        if self.profile.steps.tokenised is Tokenised.TOGETHER:
            return self._tokenizer.encode_behind(behind, text)
        return self._tokenizer.encode(text)


def _strip(text: str, strip: Strip) -> str:
    if strip is Strip.NOTHING:
        return text
    return text.rstrip("\n") if strip is Strip.NEWLINES else text.strip()


def _find_label_tokens(profile: RewardProfile, tokenizer: Tokenizer, model: str) -> tuple[int, ...]:
    """Return the ids of the tokens that a language model answers with, the good ones first.

    The last token of each text counts, as in the authors' code: some tokenizers begin a text with a space.
    """
    token_ids = [tokenizer.encode(text)[-1] for text in (*profile.output.good_tokens, *profile.output.bad_tokens)]
    if len(set(token_ids)) < len(token_ids):
        raise MisconfiguredError(f"profile: good_tokens, bad_tokens: {model} has one token for two of them")
    return tuple(token_ids)


def _softmax_of(chosen: set[int], values: Sequence[float]) -> float:
    """Return the share of the chosen values in the softmax of all of them."""
    if len(values) == 2 and len(chosen) == 1:
        (good,) = chosen
        return logistic(values[good] - values[1 - good])
    largest = max(values)
    weights = [math.exp(value - largest) for value in values]
    return math.fsum(weights[i] for i in sorted(chosen)) / math.fsum(weights)


def find_family(
    architecture: str,
    num_labels: int,
    tokenizer: Tokenizer,
    model: str,
    reading: Reading = Reading.MODEL_CARD,
    profile: str = "",
) -> RewardFamily | None:
    """Return how a checkpoint is read; None if no profile recognises it. Arguments and errors: ``choose_profile``."""
    chosen = choose_profile(architecture, num_labels, model, reading, profile)
    return RewardFamily(chosen, tokenizer, model, is_named=bool(profile)) if chosen is not None else None


def read_reward(family: RewardFamily, outputs: Sequence[Sequence[float]]) -> float:
    """Return the reward from the outputs at each of the candidate's places.

    Raises InternalError if the reward is not finite, or outside the range of the family.
    """
    reward = family.combine([family.reward(at_place) for at_place in outputs])
    if not math.isfinite(reward) or (family.is_bounded and not 0 <= reward <= 1):
        raise InternalError(f"the reward model gave {outputs}")
    return reward
