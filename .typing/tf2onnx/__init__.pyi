from tf2onnx import convert as convert
