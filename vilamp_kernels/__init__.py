"""Fast ops for keyframe selection and differential frame merging."""
