"""Templates that lack something: none at all, none for the system, or one that an operator gives with its arguments."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gsi.algorithm.candidates import Message
from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.chat_template import merge_system
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.rpc.service_process import load_and_try
from services.draft import servicer as draft_servicer
from services.prm import servicer as prm_servicer
from tests.conftest import MODELS

SYSTEM, USER = Message("system", "Be brief."), Message("user", "How many?")
ROLES_ONLY = "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + ROLES_ONLY
DROPS = ROLES_ONLY.replace("in messages", "in messages if message.role != 'system'")
THINKS = ROLES_ONLY + "{% if enable_thinking %}<think>{% endif %}"


def copy_model(role: str, folder: Path, **config: Any) -> str:
    """Copy a shipped model without its chat template, and with these fields of its configurations."""
    copy = folder / role
    shutil.copytree(MODELS / role, copy)
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        found = json.loads((copy / name).read_text())
        found.pop("chat_template", None)
        changed = {key: value for key, value in config.items() if key in found}
        (copy / name).write_text(json.dumps(found | changed))
    return str(copy)


def render(template: str, *messages: Message, **arguments: Any) -> str:
    tokenizer = Tokenizer(str(MODELS / "draft"), None, template, arguments)
    return tokenizer.show(tokenizer.render(messages))


@pytest.mark.parametrize("template", [REFUSES, DROPS])
def test_without_a_system_role_the_system_text_goes_to_the_user(template: str) -> None:
    """Whether the template refuses a system message, or drops it without a word."""
    assert render(template, SYSTEM, USER) == "[user] Be brief.\n\nHow many?\n"


def test_a_template_with_a_system_role_keeps_it() -> None:
    assert render(ROLES_ONLY, SYSTEM, USER) == "[system] Be brief.\n[user] How many?\n"


LLAMA = (  # trims what people write, and opens each turn with its role
    "{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
MISTRAL = (  # marks the turns of the user alone
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}<|im_end|>"
    "{% endif %}{% endfor %}"
)
QWEN3 = (  # drops the thoughts of earlier answers, and begins the last with none
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "before", "behind"),
    [
        (LLAMA, "<|im_end|><|im_start|>user\n\n", "<|im_end|><|im_start|>assistant\n\n"),
        (MISTRAL, "<|im_end|>[INST] ", " [/INST]"),
        (QWEN3, "<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    ],
    ids=["llama", "mistral", "qwen3"],
)
def test_a_question_is_a_turn_of_the_user_behind_an_answer(template: str, before: str, behind: str) -> None:
    """What the template writes between the two, and behind the question, where the next answer starts."""
    tokenizer = Tokenizer(str(MODELS / "draft"), None, template)
    assert tuple(map(tokenizer.show, tokenizer.render_question())) == (before, behind)


@pytest.mark.parametrize("template", ["{{ messages[-1].content }}", "{{ messages[0].content }}"])
def test_a_template_of_one_turn_asks_no_question(template: str) -> None:
    """The question would stand where the model has never seen one."""
    tokenizer = Tokenizer(str(MODELS / "draft"), None, template)
    with pytest.raises(InvalidRequestError, match="writes no turn of the user behind an answer; allowed: a template"):
        tokenizer.render_question()


def test_only_system_messages_are_moved() -> None:
    answer = Message("assistant", "Two.")
    assert merge_system((SYSTEM, USER, answer)) == (Message("user", "Be brief.\n\nHow many?"), answer)


def test_a_template_gets_its_arguments_and_may_be_a_file(tmp_path: Path) -> None:
    """Such as ``enable_thinking`` of Qwen3."""
    file = tmp_path / "template.jinja"
    file.write_text(THINKS)
    settings = EngineSettings(
        str(MODELS / "draft"), chat_template=str(file), chat_template_args='{"enable_thinking": true}'
    )
    tokenizer = Tokenizer.load(settings)
    assert tokenizer.show(tokenizer.render((USER,))) == "[user] How many?\n<think>"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"chat_template": "no/such/file"}, "chat_template: no/such/file: No such file"),
        ({"chat_template_args": "[1]"}, r"chat_template_args: \[1\] is no JSON object"),
    ],
)
def test_what_cannot_be_read_is_named(wrong: dict[str, str], sentence: str) -> None:
    with pytest.raises(MisconfiguredError, match=sentence):
        Tokenizer.load(EngineSettings(str(MODELS / "draft"), **wrong))  # type: ignore[arg-type]


async def test_a_draft_without_a_template_does_not_start(tmp_path: Path) -> None:
    """It would say that it is ready, and each job would fail."""
    settings = EngineSettings(copy_model("draft", tmp_path), num_threads=1)
    with pytest.raises(MisconfiguredError, match=r"no chat template; allowed: .* GSI_<ROLE>_CHAT_TEMPLATE"):
        await load_and_try(lambda: LANGUAGE_ENGINES.load("transformers", settings), draft_servicer.try_out)


async def test_a_prm_that_rates_nothing_does_not_start(tmp_path: Path) -> None:
    settings = EngineSettings(copy_model("prm", tmp_path), num_threads=1)
    with pytest.raises(MisconfiguredError, match="cannot serve"):
        await load_and_try(lambda: REWARD_ENGINES.load("transformers", settings), prm_servicer.try_out)


async def test_a_checkpoint_that_names_no_end_has_the_tokenizers(tmp_path: Path) -> None:
    """``eos_token_id: null`` in both configurations."""
    settings = EngineSettings(copy_model("target", tmp_path, eos_token_id=None), num_threads=1)
    engine = await LANGUAGE_ENGINES.load("transformers", settings)
    tokenizer = Tokenizer(settings.model, None)
    named = json.loads((MODELS / "target" / "tokenizer_config.json").read_text())["eos_token"]
    assert engine.info.eos_token_ids == (tokenizer.token_id(named),)
    with pytest.raises(InvalidRequestError, match=r"no chat template"):  # a target renders no prompt, so it may start
        engine.render((USER,))
    engine.close()
