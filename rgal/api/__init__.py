"""The library's surface, which `import rgal` shows: a network goes in, a student, images or an ONNX file come out."""
