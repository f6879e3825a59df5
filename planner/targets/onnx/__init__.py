"""ONNX with a key–value cache, as onnxruntime, onnxruntime-genai and OpenVINO load it."""
