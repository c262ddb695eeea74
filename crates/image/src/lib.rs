//! Kernels, initramfs, base images and overlays.
