"""The default model, written anew for the engines that cannot read its file.

For ctransformers: as a GGUF file of 2023 would have it, with an output of its own and LLaMA's kind of vocabulary. For
ONNX Runtime: as a graph with weights of eight bits, laid out as its model builder does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize
from onnx import TensorProto, helper

NORMAL, CONTROL, BYTE = 1, 3, 6
BLOCK = 32
NUMBERS = (
    *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "rope.dimension_count"),
)
FLOATS = ("rope.freq_base", "attention.layer_norm_rms_epsilon")


def bytes_by_letter() -> dict[str, int]:
    """Which byte a letter in a token stands for: https://github.com/openai/gpt-2/blob/master/src/encoder.py"""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [one for one in range(256) if one not in plain]
    return {chr(one): one for one in plain} | {chr(256 + number): one for number, one in enumerate(others)}


def read(source: Path) -> GGUFReader:
    return GGUFReader(source)


def of_2023(model: GGUFReader, target: Path) -> Path:
    """Write the model as ctransformers can load it."""
    writer = GGUFWriter(target, "llama")
    for key in NUMBERS:
        writer.add_uint32(f"llama.{key}", model.fields[f"llama.{key}"].contents())
    for key in FLOATS:
        writer.add_float32(f"llama.{key}", model.fields[f"llama.{key}"].contents())
    tokens, types = words_of_2023(model)
    writer.add_string("tokenizer.ggml.model", "llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    # The earlier a token was merged, the sooner: which is what the numbers of these tokens follow.
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    for name in ("bos_token_id", "eos_token_id"):
        writer.add_uint32(f"tokenizer.ggml.{name}", model.fields[f"tokenizer.ggml.{name}"].contents())
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_string("tokenizer.chat_template", model.fields["tokenizer.chat_template"].contents())
    for tensor in model.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        if tensor.name == "token_embd.weight":
            writer.add_tensor("output.weight", tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with target.open("r+b") as file:
        file.seek(4)
        file.write((2).to_bytes(4, "little"))
    return target


def words_of_2023(model: GGUFReader) -> tuple[list[bytes], list[int]]:
    """The tokens as LLaMA's vocabulary writes them: every byte has one, and a space is a low line."""
    letters = bytes_by_letter()
    tokens: list[bytes] = []
    types: list[int] = []
    for text, kind in zip(
        model.fields["tokenizer.ggml.tokens"].contents(),
        model.fields["tokenizer.ggml.token_type"].contents(),
        strict=True,
    ):
        raw = text.encode() if kind != NORMAL else bytes(letters[letter] for letter in text)
        single = kind == NORMAL and len(raw) == 1
        tokens.append(b"<0x%02X>" % raw[0] if single else raw.replace(b" ", "▁".encode()))
        types.append(BYTE if single else int(kind))
    missing = [one for one in (b"<0x%02X>" % number for number in range(256)) if one not in set(tokens)]
    # Bytes that this model has no token for take the place of control tokens that a chat never has.
    spare = [number for number, kind in enumerate(types) if kind == CONTROL and number > 2]
    for number, token in zip(spare, missing, strict=False):
        tokens[number], types[number] = token, BYTE
    return tokens, types


class Graph:
    """SmolLM2 as an ONNX graph; `text` of the two languages share the names of the original tensors."""

    def __init__(self, model: GGUFReader) -> None:
        self.fields = model.fields
        self.tensors = {tensor.name: tensor for tensor in model.tensors}
        self.weights: list[Any] = []
        self.nodes: list[Any] = []
        self.layers, self.width = self.key("block_count"), self.key("embedding_length")
        self.heads, self.shared = self.key("attention.head_count"), self.key("attention.head_count_kv")
        self.size, self.context = self.width // self.heads, self.key("context_length")

    def key(self, name: str) -> Any:
        return self.fields[f"llama.{name}"].contents()

    def weight(self, name: str, values: Any) -> str:
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        raw = np.ascontiguousarray(values).tobytes()
        self.weights.append(helper.make_tensor(name, kind, values.shape, raw, raw=True))
        return name

    def node(self, kind: str, inputs: list[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        one = helper.make_node(kind, inputs, outputs, domain=domain, name=outputs[0], **attributes)
        self.nodes.append(one)
        return outputs[0]

    def matmul(self, value: str, name: str, out: str) -> str:
        tensor = self.tensors[name]
        values = dequantize(tensor.data, tensor.tensor_type)
        rows, columns = values.shape
        blocks = values.reshape(rows, -1, BLOCK)
        scale = np.maximum(np.abs(blocks).max(2) / 127, 1e-12).astype(np.float32)
        codes = (np.rint(blocks / scale[..., None]) + 128).astype(np.uint8)
        inputs = [value, self.weight(name, codes), self.weight(f"{name}.scale", scale.reshape(-1))]
        sizes = {"K": columns, "N": rows, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
        return self.node("MatMulNBits", inputs, out, domain="com.microsoft", **sizes)

    def norm(self, value: str, name: str, out: str) -> str:
        inputs = [value, self.weight(name, np.array(self.tensors[name].data))]
        epsilon = self.key("attention.layer_norm_rms_epsilon")
        return self.node("SimplifiedLayerNormalization", inputs, out, axis=-1, epsilon=epsilon, stash_type=1)

    def begin(self) -> str:
        """Embedding, the tables of positions, and the lengths that attention asks for."""
        tensor = self.tensors["token_embd.weight"]
        embedding = self.weight("embedding", dequantize(tensor.data, tensor.tensor_type).astype(np.float16))
        powers = self.key("rope.freq_base") ** (-np.arange(0, self.size, 2) / self.size)
        angles = np.arange(self.context)[:, None] * powers[None]
        self.weight("cos", np.cos(angles).astype(np.float32))
        self.weight("sin", np.sin(angles).astype(np.float32))
        one = self.weight("one", np.array([1], np.int64))
        summed = self.node("ReduceSum", ["attention_mask", one], "sums", keepdims=1)
        self.node("Cast", [self.node("Sub", [summed, one], "last")], "lengths", to=TensorProto.INT32)
        shape = self.node("Shape", ["attention_mask"], "shape")
        longest = self.node("Gather", [shape, self.weight("second", np.array(1, np.int64))], "longest", axis=0)
        self.node("Cast", [longest], "total", to=TensorProto.INT32)
        return self.node("Cast", [self.node("Gather", [embedding, "input_ids"], "half")], "h", to=TensorProto.FLOAT)

    def layer(self, value: str, number: int) -> str:
        blk, past, present = f"blk.{number}.", f"past_key_values.{number}", f"present.{number}"
        normed = self.norm(value, f"{blk}attn_norm.weight", f"{blk}a")
        parts = [self.matmul(normed, f"{blk}attn_{part}.weight", f"{blk}{part}") for part in "qkv"]
        self.node(
            "GroupQueryAttention",
            [*parts, f"{past}.key", f"{past}.value", "lengths", "total", "cos", "sin"],
            *(f"{blk}attended", f"{present}.key", f"{present}.value"),
            domain="com.microsoft",
            **{"num_heads": self.heads, "kv_num_heads": self.shared, "do_rotary": 1, "rotary_interleaved": 1},
        )
        attended = self.matmul(f"{blk}attended", f"{blk}attn_output.weight", f"{blk}o")
        middle = self.node("Add", [value, attended], f"{blk}middle")
        normed = self.norm(middle, f"{blk}ffn_norm.weight", f"{blk}f")
        gate, up = (self.matmul(normed, f"{blk}ffn_{part}.weight", f"{blk}{part}") for part in ("gate", "up"))
        silu = self.node("Mul", [gate, self.node("Sigmoid", [gate], f"{blk}sigmoid")], f"{blk}silu")
        product = self.node("Mul", [silu, up], f"{blk}product")
        return self.node("Add", [middle, self.matmul(product, f"{blk}ffn_down.weight", f"{blk}down")], f"{blk}out")

    def whole(self) -> Any:
        value = self.begin()
        for number in range(self.layers):
            value = self.layer(value, number)
        self.matmul(self.norm(value, "output_norm.weight", "normed"), "token_embd.weight", "logits")
        kept = ["batch", self.shared, "past", self.size]
        made = ["batch", self.shared, "total", self.size]
        names = [f"{number}.{part}" for number in range(self.layers) for part in ("key", "value")]
        value_of = helper.make_tensor_value_info
        inputs = [value_of("input_ids", TensorProto.INT64, ["batch", "new"])]
        inputs += [value_of("attention_mask", TensorProto.INT64, ["batch", "total"])]
        inputs += [value_of(f"past_key_values.{name}", TensorProto.FLOAT, kept) for name in names]
        outputs = [value_of("logits", TensorProto.FLOAT, ["batch", "new", self.key("vocab_size")])]
        outputs += [value_of(f"present.{name}", TensorProto.FLOAT, made) for name in names]
        graph = helper.make_graph(self.nodes, "smollm2", inputs, outputs, self.weights)
        sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=9)


def as_onnx(model: GGUFReader, folder: Path) -> Path:
    """Write the model as a folder that ONNX Runtime GenAI can load."""
    folder.mkdir(exist_ok=True)
    graph = Graph(model)
    (folder / "model.onnx").write_bytes(graph.whole().SerializeToString())
    (folder / "genai_config.json").write_text(json.dumps(settings(graph)))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(model)))
    chat = model.fields["tokenizer.chat_template"].contents()
    words = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **words, "chat_template": chat}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def settings(graph: Graph) -> dict[str, Any]:
    decoder = {
        "session_options": {"provider_options": []},
        "filename": "model.onnx",
        "head_size": graph.size,
        "hidden_size": graph.width,
        "num_attention_heads": graph.heads,
        "num_key_value_heads": graph.shared,
        "num_hidden_layers": graph.layers,
        "inputs": {
            **{"input_ids": "input_ids", "attention_mask": "attention_mask"},
            **{f"past_{part}_names": f"past_key_values.%d.{part}" for part in ("key", "value")},
        },
        "outputs": {"logits": "logits", **{f"present_{part}_names": f"present.%d.{part}" for part in ("key", "value")}},
    }
    model = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "type": "llama", "decoder": decoder}
    size = {"context_length": graph.context, "vocab_size": graph.key("vocab_size")}
    return {"model": {**model, **size}, "search": {"max_length": graph.context, "past_present_share_buffer": False}}


def tokenizer(model: GGUFReader) -> dict[str, Any]:
    tokens, types = (model.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type"))
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": number, "content": tokens[number], **marks} for number, kind in enumerate(types) if kind == CONTROL]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    bpe = {"type": "BPE", "vocab": {token: number for number, token in enumerate(tokens)}}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, level],
        },
        "decoder": level,
        "model": {**bpe, "merges": list(model.fields["tokenizer.ggml.merges"].contents())},
    }
