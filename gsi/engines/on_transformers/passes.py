"""One forward pass over the parts of several requests: their tokens stand in one sequence, and each part sees its own.

Every layer but attention works token by token, so tokens of any requests can share it without padding. Attention is
asked part by part, with the keys and values of that part (the attention interface of ``transformers`` allows that).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gsi.algorithm.params import SamplingParams
from gsi.engines.on_transformers.shared_rows import RowStore, SharedRows, Turn

Tensor = torch.Tensor
Head = Callable[[Tensor], Tensor]

PACKED = "gsi_packed"  # the name of our attention
ROUNDING = 0.05  # of the largest output, in half precision; other attention is further off
MASKED_LAYERS = {"full_attention", "sliding_attention"}  # the kinds of layers whose mask ``Part.mask`` makes


def as_they_are(outputs: Tensor) -> Tensor:
    """Return the outputs of a model whose passes have its head in them."""
    return outputs


@dataclass(frozen=True, slots=True)
class Draw:
    """A token for each row, by the law of ``sampling`` and a uniform number in [0, 1) for each row.

    ``head`` makes the logits from a pass's outputs.
    """

    sampling: SamplingParams
    uniforms: Sequence[float]
    head: Head = as_they_are


@dataclass(slots=True)
class Part:
    """Rows of token ids to be read, each behind a row of the cache, which grows by the longest of them.

    A cache of shared rows takes one token a row.
    Rows are padded on the right: with causal attention no token sees the padding behind it. A pass sets ``outputs``,
    [rows, longest, outputs], or [rows, 1, outputs] at the last place if ``only_last``; and ``drawn``, a token id and
    its log-likelihood (nats) for each row, if ``draw`` asks for it; or ``error``.
    """

    cache: DynamicCache | SharedRows
    rows: Sequence[Sequence[int]]
    only_last: bool = False
    draw: Draw | None = None
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    drawn: Sequence[tuple[int, float]] = ()
    error: Exception | None = None
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)  # of this pass, by the sliding window

    @property
    def longest(self) -> int:
        return max(map(len, self.rows))

    @property
    def num_tokens(self) -> int:
        """The tokens that a pass computes for this part, padding included."""
        return len(self.rows) * self.longest

    @property
    def padded(self) -> list[list[int]]:
        longest = self.longest
        return [[*row, *[0] * (longest - len(row))] for row in self.rows]

    def mask(self, window: int | None, num_keys: int, device: torch.device) -> Tensor | None:
        """Return what each of the new tokens sees of the keys, [tokens, keys]; None for what needs no mask."""
        if window not in self.masks:
            self.masks[window] = _make_mask(self.longest, num_keys, window, device)
        return self.masks[window]


def _make_mask(num_tokens: int, num_keys: int, window: int | None, device: torch.device) -> Tensor | None:
    is_cut = window is not None and num_keys > window
    if not is_cut and num_tokens in (1, num_keys):  # one token sees all; and sdpa itself makes a plain triangle
        return None
    places = torch.arange(num_keys - num_tokens, num_keys, device=device)[:, None]
    keys = torch.arange(num_keys, device=device)[None, :]
    seen = keys <= places
    return seen if window is None else seen & (keys > places - window)


@dataclass(frozen=True, slots=True)
class Pack:
    """The parts of a pass as attention needs them: first the shared rows, a token each, then parts with own caches."""

    shared: RowStore
    turn: Turn | None
    own: Sequence[tuple[Part, DynamicCache]]


class Passes:
    """A model and its forward passes. ``run`` does not raise: what fails is the part's own ``error``.

    ``can_share`` says whether a pass may have several parts. If not, each part has a pass of its own.
    """

    def __init__(self, model: Any, device: str) -> None:
        self._model = model.to(device).eval()
        self._device = torch.device(device)
        self._narrows = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.shared = RowStore()
        self.can_share = _ask_for_our_attention(self._model) and self._agrees()

    @torch.inference_mode()
    def run(self, parts: Sequence[Part]) -> None:
        """Read the parts in one pass, or, if that fails, each in a pass of its own."""
        for together in [parts] if self.can_share else [[part] for part in parts]:
            do_or_blame(self._read, together)

    @torch.inference_mode()
    def _agrees(self) -> bool:
        """Return whether two parts have the outputs in one pass that they have in passes of their own.

        A model may do more with its tokens than attention and what works token by token, such as a bias by distance.
        """
        rows = ([0, 1, 2], [1, 0])
        together, alone = ([Part(DynamicCache(), [row]) for row in rows] for _ in range(2))
        try:
            self._read_together(together)
        except (RuntimeError, TypeError, ValueError):
            return False
        self._read_alone(alone[0], alone[0].cache)
        self._read_alone(alone[1], alone[1].cache)
        return all(_are_close(one.outputs, other.outputs) for one, other in zip(together, alone, strict=True))

    def _read(self, parts: Sequence[Part]) -> None:
        if len(parts) > 1 or isinstance(parts[0].cache, SharedRows):
            self._read_together(parts)
        else:
            self._read_alone(parts[0], parts[0].cache)

    def _read_alone(self, part: Part, cache: DynamicCache | SharedRows) -> None:
        kept = {"logits_to_keep": 1} if part.only_last and self._narrows else {}
        tokens = torch.tensor(part.padded, dtype=torch.long, device=self._device)
        outputs = self._model(input_ids=tokens, past_key_values=cache, use_cache=True, **kept).logits
        part.outputs = outputs[:, -1:] if part.only_last else outputs

    def _read_together(self, parts: Sequence[Part]) -> None:
        shared = [part.cache for part in parts if isinstance(part.cache, SharedRows)]
        parts = sorted(parts, key=lambda part: not isinstance(part.cache, SharedRows))  # those with shared rows first
        own = [(part, part.cache) for part in parts if isinstance(part.cache, DynamicCache)]
        lengths = [_length(part.cache) for part in parts]
        pack = Pack(self.shared, self.shared.begin(shared) if shared else None, own)
        try:
            outputs = self._read_pack(parts, lengths, pack)
        except BaseException:
            for (_, cache), length in zip(own, lengths[len(shared) :], strict=True):
                _rewind(cache, length)
            raise
        for rows in shared:
            rows.length += 1
        sizes = [len(part.rows) * (1 if part.only_last else part.longest) for part in parts]
        for part, rows_outputs in zip(parts, torch.split(outputs, sizes), strict=True):
            part.outputs = rows_outputs.view(len(part.rows), -1, rows_outputs.shape[-1])

    def _read_pack(self, parts: Sequence[Part], lengths: Sequence[int], pack: "Pack") -> Tensor:
        """Return the outputs that are asked for, [tokens, outputs], of all parts in one sequence."""
        tokens = [token for part in parts for row in part.padded for token in row]
        places = [
            place
            for part, length in zip(parts, lengths, strict=True)
            for place in list(range(length, length + part.longest)) * len(part.rows)
        ]
        wanted = self._wanted(parts)
        outputs: Tensor = self._model(
            input_ids=torch.tensor([tokens], dtype=torch.long, device=self._device),
            position_ids=torch.tensor([places], dtype=torch.long, device=self._device),
            attention_mask=torch.ones((1, 1, 1, 1), dtype=torch.bool, device=self._device),  # taken as it is, not used
            use_cache=False,
            pack=pack,
            **({"logits_to_keep": wanted} if self._narrows else {}),
        ).logits[0]
        return outputs if self._narrows else outputs[wanted]

    def _wanted(self, parts: Sequence[Part]) -> Tensor:
        """Return the places in the sequence whose outputs are asked for."""
        wanted: list[int] = []
        begin = 0
        for part in parts:
            end = begin + part.num_tokens
            wanted += range(begin + part.longest - 1, end, part.longest) if part.only_last else range(begin, end)
            begin = end
        return torch.tensor(wanted, dtype=torch.long, device=self._device)


def do_or_blame(work: Callable[[Sequence[Part]], None], parts: Sequence[Part]) -> None:
    """Work on all parts at once; if that fails, on each alone. A part that fails alone gets the error."""
    try:
        work(parts)
    except Exception as error:  # noqa: BLE001 - of torch or of the model's code; whoever waits for the part gets it
        if len(parts) == 1:
            parts[0].error = error
            return
        for part in parts:
            do_or_blame(work, [part])


def _ask_for_our_attention(model: Any) -> bool:
    """Make the model use the attention of this module; return False if it cannot."""
    found = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if found is None or not found.is_backend_compatible() or found.config._attn_implementation != "sdpa":
        return False
    if not MASKED_LAYERS.issuperset(getattr(found.config, "layer_types", None) or ()):
        return False
    found.set_attn_implementation(PACKED)
    return True


def _are_close(one: Tensor, other: Tensor) -> bool:
    largest = float(other.abs().max())
    return bool((one - other).abs().max() <= ROUNDING * largest)


def _length(cache: DynamicCache | SharedRows) -> int:
    return cache.length if isinstance(cache, SharedRows) else cache.get_seq_length()


def _rewind(cache: DynamicCache, length: int) -> None:
    """Take back what a failed pass has added to some of the layers."""
    for layer in cache.layers:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    pack: Pack | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend part by part: queries, keys and values are [1, heads, tokens, head size], the result [1, tokens, …].

    Without a pack this is the attention that it replaces.
    """
    if pack is None:
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return attended, None
    window, scale = options.get("sliding_window"), options.get("scaling")
    begin = 0 if pack.turn is None else len(pack.turn.places)
    results = []
    if pack.turn is not None:
        new = tuple(tensor[0, :, :begin].transpose(0, 1) for tensor in (query, key, value))
        results.append(pack.shared.attend(module.layer_idx, pack.turn, new, window=window, scale=scale))
    sizes = [part.num_tokens for part, _ in pack.own]
    slices = zip(*(torch.split(tensor[0, :, begin:], sizes, dim=1) for tensor in (query, key, value)), strict=True)
    for (part, cache), of_part in zip(pack.own, slices, strict=True):
        queries, keys, values = (_to_rows(tensor, len(part.rows)) for tensor in of_part)
        keys, values = cache.update(keys, values, module.layer_idx)
        mask = part.mask(window, keys.shape[2], keys.device)
        result, _ = sdpa_attention_forward(module, queries, keys, values, mask, **options)
        results.append(result.flatten(0, 1))
    return torch.cat(results).unsqueeze(0), None


def _to_rows(tensor: Tensor, num_rows: int) -> Tensor:
    """Return [heads, rows x tokens, head size] as [rows, heads, tokens, head size]."""
    heads, _, size = tensor.shape
    return tensor.reshape(heads, num_rows, -1, size).transpose(0, 1)


AttentionInterface.register(PACKED, _attend)
AttentionMaskInterface.register(PACKED, sdpa_mask)  # for passes of one part
