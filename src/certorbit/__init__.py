"""Certorbit: certificates for load-balanced fleets, from order to proof."""

__version__ = "0.1.0"
