"""Ask questions of hours of video: ViLAMP (Cheng et al., ICML 2025) on small, fast ops."""
