//! Jobs: submitting and looking.

pub mod batch;
pub mod list;
mod reasons;
pub mod show;
pub mod submit;
pub mod visible;
pub mod why;
