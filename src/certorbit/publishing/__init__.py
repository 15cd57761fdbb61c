"""Edge bundles: written to the buckets of the settings (docs/publish.md). What a bundle is: `model.edge_bundle`."""
