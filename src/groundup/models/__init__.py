"""Models, one file per family, named by its Hugging Face model_type; what ``model`` in a recipe is looked up in.

A family's file is read when it is first asked for, so that naming one does not load all.
"""

from __future__ import annotations

from typing import Any

from groundup.core.use import resolve

HOMES = {
    "Bert": "bert",
    "CifarResNet": "resnet",
    "ConvNext": "convnext",
    "DLinear": "dlinear",
    "DeepseekV3": "deepseek_v3",
    "Dinov2": "dinov2",
    "DistilBert": "distilbert",
    "Electra": "electra",
    "FTTransformer": "ft_transformer",
    "GPT2": "gpt2",
    "GPTNeoX": "gpt_neox",
    "GRU": "gru",
    "Gemma2": "gemma2",
    "Gemma3Text": "gemma3_text",
    "Granite": "granite",
    "LSTM": "lstm",
    "Llama": "llama",
    "MLP": "mlp",
    "Mamba2": "mamba2",
    "Mistral": "mistral",
    "Mixtral": "mixtral",
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
    "ModernBert": "modernbert",
    "NLinear": "nlinear",
    "Olmo2": "olmo2",
    "PatchTST": "patchtst",
    "Phi3": "phi3",
    "Published": "start",
    "Qwen2": "qwen2",
    "Qwen3": "qwen3",
    "Qwen3Moe": "qwen3_moe",
    "ResNet": "resnet",
    "RevIN": "rev_in",
    "Roberta": "roberta",
    "SmolLM3": "smollm3",
    "SqueezeNet": "squeezenet",
    "T5": "t5",
    "TCN": "tcn",
    "TableResNet": "table_resnet",
    "TextCNN": "text_cnn",
    "ViT": "vit",
}
"""Class -> the file here that it stands in."""

__all__ = [*HOMES]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = resolve(f"{__name__}.{HOMES[name]}:{name}", "model")
    globals()[name] = found
    return found
