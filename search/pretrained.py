"""The networks of keras.applications with their ImageNet classes: what they are called and where their weights lie."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from search.errors import InputError
from spaces.datasets import sources

PREFIX = "keras:"
CLASSES = 1000
CLASS_INDEX = "imagenet_class_index.json"

_KERNELS = "_weights_tf_dim_ordering_tf_kernels.h5"
# Keras' own names, the side of the square images each takes, and the file its weights have in Keras' cache. Written
# out, since Keras would have to be loaded to know them, and would then try to download what is not there.
NETWORKS: dict[str, tuple[int, str]] = {
    "ConvNeXtTiny": (224, "convnext_tiny.h5"),
    "ConvNeXtSmall": (224, "convnext_small.h5"),
    "ConvNeXtBase": (224, "convnext_base.h5"),
    "ConvNeXtLarge": (224, "convnext_large.h5"),
    "ConvNeXtXLarge": (224, "convnext_xlarge.h5"),
    "DenseNet121": (224, f"densenet121{_KERNELS}"),
    "DenseNet169": (224, f"densenet169{_KERNELS}"),
    "DenseNet201": (224, f"densenet201{_KERNELS}"),
    "EfficientNetB0": (224, "efficientnetb0.h5"),
    "EfficientNetB1": (240, "efficientnetb1.h5"),
    "EfficientNetB2": (260, "efficientnetb2.h5"),
    "EfficientNetB3": (300, "efficientnetb3.h5"),
    "EfficientNetB4": (380, "efficientnetb4.h5"),
    "EfficientNetB5": (456, "efficientnetb5.h5"),
    "EfficientNetB6": (528, "efficientnetb6.h5"),
    "EfficientNetB7": (600, "efficientnetb7.h5"),
    "EfficientNetV2B0": (224, "efficientnetv2-b0.h5"),
    "EfficientNetV2B1": (240, "efficientnetv2-b1.h5"),
    "EfficientNetV2B2": (260, "efficientnetv2-b2.h5"),
    "EfficientNetV2B3": (300, "efficientnetv2-b3.h5"),
    "EfficientNetV2S": (384, "efficientnetv2-s.h5"),
    "EfficientNetV2M": (480, "efficientnetv2-m.h5"),
    "EfficientNetV2L": (480, "efficientnetv2-l.h5"),
    "InceptionResNetV2": (299, f"inception_resnet_v2{_KERNELS}"),
    "InceptionV3": (299, f"inception_v3{_KERNELS}"),
    "MobileNet": (224, "mobilenet_1_0_224_tf.h5"),
    "MobileNetV2": (224, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"),
    "MobileNetV3Large": (224, "weights_mobilenet_v3_large_224_1.0_float.h5"),
    "MobileNetV3Small": (224, "weights_mobilenet_v3_small_224_1.0_float.h5"),
    "NASNetLarge": (331, "nasnet_large.h5"),
    "NASNetMobile": (224, "nasnet_mobile.h5"),
    "ResNet50": (224, f"resnet50{_KERNELS}"),
    "ResNet50V2": (224, f"resnet50v2{_KERNELS}"),
    "ResNet101": (224, f"resnet101{_KERNELS}"),
    "ResNet101V2": (224, f"resnet101v2{_KERNELS}"),
    "ResNet152": (224, f"resnet152{_KERNELS}"),
    "ResNet152V2": (224, f"resnet152v2{_KERNELS}"),
    "VGG16": (224, f"vgg16{_KERNELS}"),
    "VGG19": (224, f"vgg19{_KERNELS}"),
    "Xception": (299, f"xception{_KERNELS}"),
}


@dataclass(frozen=True)
class Pretrained:
    """A network, the square images it takes, its weights, and its classes; `note` says why there are no names."""

    name: str
    shape: tuple[int, int, int]
    weights: Path
    class_names: tuple[str, ...]
    note: str


def find(reference: str, weights: str | None) -> Pretrained:
    """The network that `keras:NAME` means, with weights from a file, by default from Keras' cache.

    Nothing is downloaded. Raises InputError for an unknown name, and where there are no weights.
    """
    name = reference.removeprefix(PREFIX)
    if name not in NETWORKS:
        known = {each.lower(): each for each in NETWORKS}
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
        hint = f"Did you mean {PREFIX}{known[near[0]]}?" if near else f"There are: {', '.join(sorted(NETWORKS))}"
        raise InputError(f"unknown network {name!r}. {hint}")
    side, file = NETWORKS[name]
    folder = cache()
    path = Path(weights).expanduser() if weights else folder / file
    if weights and not path.is_file():
        raise InputError(f"--weights {weights}: no such file")
    if not path.is_file():
        raise InputError(f"the weights of {name} are not here: put {file} into {folder}, or give --weights FILE")
    names, note = _class_names(folder / CLASS_INDEX)
    return Pretrained(name, (side, side, 3), path.absolute(), names, note)


def cache() -> Path:
    """Where Keras keeps the weights it downloaded."""
    return sources.keras_cache("models").absolute()


def _class_names(path: Path) -> tuple[tuple[str, ...], str]:
    try:
        index = json.loads(path.read_text())
        return tuple(str(index[str(number)][1]) for number in range(CLASSES)), ""
    except FileNotFoundError:
        why = f"put {path.name} into {path.parent} to see their names"
    except (OSError, ValueError, LookupError, TypeError):
        why = f"{path} is not Keras' list of their names"
    return (), f"classes are numbers: {why}"
