//! Shows that a production build of wagate talks to nobody but WhatsApp.
//!
//! The `simulator` feature lets wagate dial another server and skips the check of the server's
//! certificate chain. Tests and examples have it; what is released must not. Cargo unites the
//! features of what is built together, so this is a package of its own, built and run alone:
//!
//! ```text
//! cargo build -p wagate -p wagate-production --bins
//! cargo test -p wagate-production --test production
//! ```
//!
//! The first command makes the program that the second one runs. The test fails, and says why, when
//! either was built with the feature.
