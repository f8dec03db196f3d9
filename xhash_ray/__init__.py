"""Cross-modal hashing on Ray: image-text pairs at 8 to 16 bytes, searched exactly.

The rooms, from the ground up (each imports only what stands above it in this list):

    errors                                             what can go wrong, and what to do
    config, telemetry, core, storage                   options, metrics, bits, files
    corpus, features, methods, index, evaluation       pairs, CLIP, papers, codes at rest, measures
    runtime                                            the only room that imports ray
    cli                                                one verb, one command
"""

__version__ = "0.1.0"
