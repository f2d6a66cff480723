//! exec image
