"""Graphs to try planish on: small nets built by name, and real pretrained models (`planish.models.zoo`)."""
