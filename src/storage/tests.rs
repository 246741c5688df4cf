//! Storage on a virtual disk.
