"""A reward other than correctness: answers that do without a word.

The program writes a tiny outcome reward model, which rates a whole answer by how often a word stands in it. Then it
lets the draft alone and GSI over whole responses answer the same problems, and counts the answers that do without the
word. The word stands for whatever an answer should not have. The models are loaded into this process; a system takes
the reward model by GSI_PRM_MODEL, and its jobs the same method (docs/reward-models.md).
"""

import asyncio
import math
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForSequenceClassification

from gsi.algorithm.candidates import Message, Prompt, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round
from gsi.engines.base import EngineSettings, LanguageEngine
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.jobs.job_params import JobParams
from gsi.local.demo import held_out_problems
from gsi.runtime.installation import SHIPPED_MODELS

WORD = "Then"
GOOD = 5.0  # about the reward of an answer without the word
COST = 1000.0  # an answer whose tokens are all the word has about this much less: a word in 150 tokens costs 6.7
HIDDEN = 8
METHODS = ("draft", "gsi:responses:n=8:beta=4:u=0:reward_map=raw")
NUM_PROBLEMS = 12


def write_reward_model(folder: Path, word: str = WORD) -> None:
    """Write a sequence classifier with one value, and the shipped tokenizer; its weights are set, not trained.

    With the share s of the word among all tokens of the conversation, problem included, the value is
    (GOOD - COST * s) / sqrt(1 + s^2): any number, below 0 as soon as a word stands in fewer than 200 tokens. The one
    layer attends to all tokens alike, which makes a share of a mark that the word's embedding has.
    """
    shutil.copytree(SHIPPED_MODELS / "prm", folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (word_id,) = tokenizer.encode(word)
    config = Qwen2Config(
        vocab_size=448,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=512,
        num_labels=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["Qwen2ForSequenceClassification"],
    )
    model = Qwen2ForSequenceClassification(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        layer = model.model.layers[0]
        model.model.embed_tokens.weight[:, 0] = 1.0
        model.model.embed_tokens.weight[word_id, 1] = 1.0
        layer.self_attn.v_proj.weight[0, 1] = math.sqrt(2 / HIDDEN)  # undoes the norm of the word: its value is 1
        layer.self_attn.o_proj.weight[2, 0] = 1.0
        model.score.weight[0, 0] = GOOD / math.sqrt(HIDDEN)
        model.score.weight[0, 2] = -COST / math.sqrt(HIDDEN)
    model.save_pretrained(folder)


async def count_without(engines: Ports, draft: LanguageEngine, method: str, word: str) -> int:
    """Let a method answer the problems; return how many answers do without the word."""
    params, answers = JobParams.model_validate({"method": method}).to_params(), list[str]()
    for seed, problem in enumerate(held_out_problems(NUM_PROBLEMS)):  # equal seeds would draw alike in all of them
        messages = (Message("user", problem["prompt"]),)
        start = Trajectory(Prompt(messages, draft.render(messages)))
        answer, _ = await generate(start, params, engines, seed, keep=forget, max_length=draft.info.max_length)
        answers.append(answer.text)
    return sum(word not in answer for answer in answers)


async def forget(_: Round) -> None:
    """Keep no round: a system keeps each in its queue, to go on from there."""


async def main(word: str) -> None:
    """Load the shipped draft and target and the reward model, and print a line for each method."""
    with tempfile.TemporaryDirectory() as folder:
        preference = Path(folder) / "preference"
        write_reward_model(preference, word)
        draft, target = [
            await LANGUAGE_ENGINES.load("transformers", shipped(role)) for role in ("draft", "shallow-target")
        ]
        prm = await REWARD_ENGINES.load("transformers", EngineSettings(str(preference)))
        for method in METHODS:
            found = await count_without(Ports(draft, target, prm), draft, method, word)
            print(f"{method}: {found} of {NUM_PROBLEMS} answers without {word}")


def shipped(name: str) -> EngineSettings:
    """Return the settings of an engine with a shipped model."""
    return EngineSettings(str(SHIPPED_MODELS / name))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else WORD))
