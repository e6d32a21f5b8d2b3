"""The engines that answer prompts, one file each, over one small protocol."""
