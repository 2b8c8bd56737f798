"""From runs to plain bytes: containers opened, blocks fetched ahead and kept, spans checked."""
