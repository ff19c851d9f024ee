"""MLX as an engine of Enginebay. The plugin is ``enginebay_mlx.plugin``; importing this package loads nothing."""
