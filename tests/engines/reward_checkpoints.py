"""Tiny random checkpoints of each family of reward models, with the reward by a plain Hugging Face forward pass.

The parameters have the names and the shapes of the public checkpoints.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, Qwen2Config, Qwen2Model

from gsi.rpc.convert import ReceivedText
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, STEPS, reference

CANDIDATES = (
    ReceivedText(0, "On Tuesday Mia has 38 - 18 = 20 shells.\n\n"),
    ReceivedText(1, "The answer is \\boxed{20}"),
)
TOLERANCE = 1e-5

Values = Callable[[str], float]  # a text to the reward that Hugging Face gives it
Checkpoint = Callable[[Path], tuple[Path, Values]]  # a folder that is not there yet to the checkpoint written into it


def random_backbone() -> tuple[Qwen2Config, Qwen2Model]:
    torch.manual_seed(0)
    config = Qwen2Config.from_pretrained(MODELS / "prm")
    return config, Qwen2Model(config).eval()


def write_checkpoint(folder: Path, architecture: str, weights: dict[str, torch.Tensor], **config: Any) -> Path:
    """Write a checkpoint with the shipped PRM's tokenizer."""
    folder.mkdir()
    for file in (MODELS / "prm").iterdir():
        if file.suffix != ".safetensors" and file.is_file():
            shutil.copy(file, folder)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, **config, "architectures": [architecture]}))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


def num_parameters_of_file(checkpoint: Path) -> int:
    """Return how many numbers a checkpoint stores. It stores a parameter that layers share once."""
    return sum(tensor.numel() for tensor in load_file(checkpoint / "model.safetensors").values())


def value_head(folder: Path, architecture: str, names: tuple[str, ...], head: torch.nn.Module) -> tuple[Path, Any]:
    """Write a backbone with a head; return the head over the last token's hidden state as a function of token ids."""
    _, backbone = random_backbone()
    weights = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    weights |= dict(zip(names, head.state_dict().values(), strict=True))

    def last(token_ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            hidden = backbone(input_ids=torch.tensor([token_ids])).last_hidden_state[0, -1]
            outputs: torch.Tensor = head(hidden)
        return outputs

    return write_checkpoint(folder, architecture, weights), last


def skywork(folder: Path) -> tuple[Path, Values]:
    """Write a process model: newlines behind problem and lines, one value through a sigmoid, no template."""
    _, tokenizer = reference("prm")
    head = torch.nn.Linear(Qwen2Config.from_pretrained(MODELS / "prm").hidden_size, 1)
    path, last = value_head(folder, "Qwen2ForPrmModel", ("v_head.summary.weight", "v_head.summary.bias"), head)

    def value(text: str) -> float:
        token_ids = tokenizer((tokenizer.bos_token or "") + MESSAGES[0].content + "\n")["input_ids"]
        for line in ("".join(STEPS) + text.rstrip("\n")).split("\n"):
            token_ids += [*tokenizer(line)["input_ids"], *tokenizer("\n")["input_ids"]]
        return float(torch.sigmoid(last(token_ids)))

    return path, value


def reasonflux(folder: Path) -> tuple[Path, Values]:
    """Write a ReasonFlux-PRM-7B: the assistant's answer is the steps with a mark behind each, in the chat template."""
    _, tokenizer = reference("prm")
    hidden = Qwen2Config.from_pretrained(MODELS / "prm").hidden_size
    torch.manual_seed(4)
    head = torch.nn.Sequential(torch.nn.Linear(hidden, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2))
    names = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
    path, last = value_head(folder, "Qwen2ForProcessRewardModel", names, head)

    def value(text: str) -> float:
        answer = "".join(f"{step.rstrip()}<extra_0>" for step in (*STEPS, text))
        turns = [{"role": "user", "content": MESSAGES[0].content}, {"role": "assistant", "content": answer}]
        whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
        token_ids = tokenizer(whole)["input_ids"]
        end = len(token_ids) - token_ids[::-1].index(tokenizer.get_vocab()["<extra_0>"])
        return float(torch.softmax(last(token_ids[:end]), dim=-1)[1])

    return path, value


def conversation(tokenizer: Any, text: str) -> list[int]:
    """Return the finished conversation by the chat template; its last answer ends with the candidate."""
    messages = [
        {"role": "user", "content": MESSAGES[0].content},
        {"role": "assistant", "content": (STEPS[0] + text).rstrip()},
    ]
    token_ids: list[int] = tokenizer.apply_chat_template(messages, return_dict=False)
    return token_ids


def write_classifier(folder: Path, num_labels: int) -> tuple[Path, Callable[[str], torch.Tensor]]:
    """Write a sequence classifier; return its outputs [labels] at the end of the conversation, by its own pooling."""
    config, backbone = random_backbone()
    _, tokenizer = reference("prm")
    config.num_labels, config.pad_token_id = num_labels, 0
    model = AutoModelForSequenceClassification.from_config(config).float().eval()
    model.model.load_state_dict(backbone.state_dict())
    torch.nn.init.normal_(model.score.weight)  # values well outside of [0, 1]
    labels = {str(label): f"LABEL_{label}" for label in range(num_labels)}
    path = write_checkpoint(
        folder, "Qwen2ForSequenceClassification", model.state_dict(), id2label=labels, pad_token_id=0
    )

    def outputs(text: str) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = model(torch.tensor([conversation(tokenizer, text)])).logits[0]
        return logits

    return path, outputs


def classifier(folder: Path) -> tuple[Path, Values]:
    """Write an outcome model such as Skywork-Reward: one value at the end of the conversation, as it is."""
    path, outputs = write_classifier(folder, 1)
    return path, lambda text: float(outputs(text)[0])


def classifier_of_two(folder: Path) -> tuple[Path, Values]:
    """Write an outcome model with two labels, bad and good: the reward is the softmax of the second."""
    path, outputs = write_classifier(folder, 2)
    return path, lambda text: float(torch.softmax(outputs(text), dim=-1)[1])


def stock(folder: Path) -> tuple[Path, Values]:
    """Write a reward model that vLLM has a class for and we have not: Qwen2.5-Math-RM, one value at every token."""
    _, tokenizer = reference("prm")
    hidden = Qwen2Config.from_pretrained(MODELS / "prm").hidden_size
    head = torch.nn.Sequential(torch.nn.Linear(hidden, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1))
    names = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
    path, last = value_head(folder, "Qwen2ForRewardModel", names, head)
    return path, lambda text: float(last(conversation(tokenizer, text)))
