"""Exported files, and what runs them in torch's place: onnxruntime and OpenVINO."""
