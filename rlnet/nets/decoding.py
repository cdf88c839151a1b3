"""KV cache: sampling token by token from a decoder that keeps the keys and values of earlier tokens.

A text that is one token longer than in the call before costs a forward pass of that token alone. The layers are those
of the transformers library (Llama, GPT-2), computed without gradient from the same parameters for all members at once.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

Own = Mapping[str, Tensor]  # parameters of a decoder by the library's names, each [M, ...]
# (layer, queries, keys, values of the new tokens, [M, B, heads, T, d] each) → what is attended to, [M, B, T, heads·d]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
# (parameters, tokens [M, B, T], their places in the texts [M, B, T], attention) → last hidden states [M, B, T, H]
Layers = Callable[[Own, Tensor, Tensor, Attend], Tensor]


def layers_of(body: Any) -> Layers:
    """The computation of a decoder of the library (`LlamaModel` or `GPT2Model`)."""
    return _llama(body) if body.config.model_type == "llama" else _gpt2(body)


def _llama(body: Any) -> Layers:
    config, rotary = body.config, body.rotary_emb
    eps, heads = config.rms_norm_eps, config.num_attention_heads

    def normed(x: Tensor, weight: Tensor) -> Tensor:
        return _wide(weight) * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps))

    def layers(own: Own, tokens: Tensor, places: Tensor, attend: Attend) -> Tensor:
        angle = places[:, :, None, :, None] * rotary.inv_freq.to(places.device)  # [M, B, 1, T, d/2]
        cosine, sine = (f(torch.cat((angle, angle), -1)) * rotary.attention_scaling for f in (torch.cos, torch.sin))

        def turned(x: Tensor) -> Tensor:
            first, second = x.chunk(2, -1)
            return x * cosine + torch.cat((-second, first), -1) * sine

        x = _looked_up(own["embed_tokens.weight"], tokens)
        for k in range(config.num_hidden_layers):
            at = f"layers.{k}."
            y = normed(x, own[at + "input_layernorm.weight"])
            q, key, value = (_heads(_times(y, own[f"{at}self_attn.{name}_proj.weight"].mT), heads) for name in "qkv")
            x = x + _times(attend(k, turned(q), turned(key), value), own[at + "self_attn.o_proj.weight"].mT)
            y = normed(x, own[at + "post_attention_layernorm.weight"])
            gate, up, down = (own[f"{at}mlp.{name}_proj.weight"].mT for name in ("gate", "up", "down"))
            x = x + _times(silu(_times(y, gate)) * _times(y, up), down)
        return normed(x, own["norm.weight"])

    return layers


def _gpt2(body: Any) -> Layers:
    config = body.config

    def layers(own: Own, tokens: Tensor, places: Tensor, attend: Attend) -> Tensor:
        def normed(x: Tensor, name: str) -> Tensor:
            x = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=config.layer_norm_epsilon)
            return x * _wide(own[name + ".weight"]) + _wide(own[name + ".bias"])

        def affine(x: Tensor, name: str) -> Tensor:
            return _times(x, own[name + ".weight"]) + _wide(own[name + ".bias"])

        x = _looked_up(own["wte.weight"], tokens) + _looked_up(own["wpe.weight"], places)
        for k in range(config.n_layer):
            at = f"h.{k}."
            q, key, value = affine(normed(x, at + "ln_1"), at + "attn.c_attn").chunk(3, -1)
            seen = attend(k, *(_heads(part, config.n_head) for part in (q, key, value)))
            x = x + affine(seen, at + "attn.c_proj")
            y = gelu(affine(normed(x, at + "ln_2"), at + "mlp.c_fc"), approximate="tanh")
            x = x + affine(y, at + "mlp.c_proj")
        return normed(x, "ln_f")

    return layers


def _wide(x: Tensor) -> Tensor:
    """[M, H] → [M, 1, 1, H]."""
    return x[:, None, None]


def _times(x: Tensor, weight: Tensor) -> Tensor:
    """[M, B, T, I] times [M, I, O]: [M, B, T, O]."""
    return torch.bmm(x.flatten(1, 2), weight).view(*x.shape[:-1], -1)


def _heads(x: Tensor, heads: int) -> Tensor:
    """[M, B, T, heads·d] → [M, B, heads, T, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(2, 3)


def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    """Rows of each member's own table: [M, K, H], int64 [M, B, T] → [M, B, T, H]."""
    return table[torch.arange(len(table), device=table.device)[:, None, None], index]


class _Cache(NamedTuple):
    """Keys and values of B texts, and who they are."""

    keys: list[Tensor]  # of each layer, [M·B·heads, room, d]
    values: list[Tensor]
    readable: Tensor  # bool [M, B, room], which places belong to a text
    texts: Tensor  # int64 [M, B, W], −1 behind the end
    length: Tensor  # int64 [M, B]
    alive: Tensor  # bool [M, B], texts that only grew since they began
    used: int  # places


class Decoding:
    """Last hidden states of texts that grow by a token from call to call, with fixed parameters.

    A call in which no text is the one before plus a token resets the cache; so new prompts must not be longer than the
    texts before them. After a reset, a text that does not grow by one token is dropped: its hidden states are zeros
    until the next reset. Rollouts of whole episodes need no more, because rows after the end of a text are not learned
    from.

    Args:
        layers: of the decoder.
        covered: texts [M, B, W] → texts [M, C, T] that begin with them, without −1 inside, and which of these it is
            for each, int64 [M, B].
    """

    def __init__(self, layers: Layers, covered: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self._layers, self._covered = layers, covered
        self._cache: _Cache | None = None

    @torch.no_grad()
    def __call__(self, own: Own, texts: Tensor) -> Tensor:
        """Hidden states [M, B, H] at the last tokens of texts, int64 [M, B, W] with −1 behind their ends."""
        grown = self._grown(texts)
        if grown is None or not grown.any():
            return self._begun(own, texts)
        return self._gone_on(own, texts, grown)

    def _grown(self, texts: Tensor) -> Tensor | None:
        """Which texts are those of the call before and a token more: bool [M, B]; None where there are others."""
        cache = self._cache
        if cache is None or cache.texts.shape != texts.shape:
            return None
        room = texts.shape[-1]
        new = texts.gather(-1, cache.length.clamp(max=room - 1).unsqueeze(-1)).squeeze(-1)
        same = (texts == cache.texts).sum(-1) == room - 1
        return same & (new >= 0) & (cache.length < room)

    def _begun(self, own: Own, texts: Tensor) -> Tensor:
        """Read whole texts, those that begin alike together."""
        length = (texts >= 0).sum(-1)
        read, cover = self._covered(texts)
        members, count, width = read.shape
        place = torch.arange(width, device=texts.device)
        hidden_from = place[:, None] < place  # of each place, those behind it
        keys: list[Tensor] = []
        values: list[Tensor] = []
        room = width + texts.shape[-1] - int(length.min())
        member = torch.arange(members, device=texts.device)[:, None]

        def attend(layer: int, q: Tensor, key: Tensor, value: Tensor) -> Tensor:
            for into, x in ((keys, key), (values, value)):
                kept = x.new_zeros(*texts.shape[:2], x.shape[2], room, x.shape[-1])
                kept[:, :, :, :width] = x[member, cover]
                into.append(kept.flatten(0, 2))
            return _attended(q, key, value, hidden_from)

        hidden = self._layers(own, read.clamp(min=0), place.expand(members, count, width), attend)
        readable = torch.arange(room, device=texts.device) < length.unsqueeze(-1)
        alive = torch.ones_like(length, dtype=torch.bool)
        self._cache = _Cache(keys, values, readable, texts.clone(), length, alive, width)
        return hidden[member, cover, length - 1]

    def _gone_on(self, own: Own, texts: Tensor, grown: Tensor) -> Tensor:
        """Read the last tokens of texts."""
        old = self._cache
        assert old is not None
        alive, used = old.alive & grown, old.used + 1
        place = old.length.clamp(max=texts.shape[-1] - 1).unsqueeze(-1)  # [M, B, 1]
        old.readable[:, :, old.used] = True
        hidden_from = ~old.readable[:, :, None, None, :used]

        def attend(layer: int, q: Tensor, key: Tensor, value: Tensor) -> Tensor:
            def kept(store: Tensor, x: Tensor) -> Tensor:
                store[:, old.used] = x.flatten(0, 2).squeeze(1)
                return store[:, :used].view(*x.shape[:3], used, -1)

            return _attended(q, kept(old.keys[layer], key), kept(old.values[layer], value), hidden_from)

        hidden = self._layers(own, texts.gather(-1, place).clamp(min=0), place, attend).squeeze(2)
        length = (texts >= 0).sum(-1)
        self._cache = old._replace(texts=texts.clone(), length=length, alive=alive, used=used)
        return hidden * alive.unsqueeze(-1)


def _attended(q: Tensor, key: Tensor, value: Tensor, hidden_from: Tensor) -> Tensor:
    """softmax(q·kᵀ/√d)·v without what is hidden: [M, B, heads, T, d], heads joined: [M, B, T, heads·d]."""
    scores = (q @ key.mT) * q.shape[-1] ** -0.5
    weight = scores.masked_fill(hidden_from, -torch.inf).softmax(-1)
    return (weight @ value).transpose(2, 3).flatten(3)
