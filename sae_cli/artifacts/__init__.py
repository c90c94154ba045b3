"""Run directories: manifests, safetensors files, shards; every write atomic, every file hashed."""
