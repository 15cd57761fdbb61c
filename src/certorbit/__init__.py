"""Certorbit: certificates for load-balanced fleets, from order to proof."""
