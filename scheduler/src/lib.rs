//! Berth.

pub mod ask;
pub mod core {
    pub mod rows;
}
pub mod health;
pub mod http;
pub mod store {
    pub mod read;
}
