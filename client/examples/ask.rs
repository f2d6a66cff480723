//! Asks the daemon what it serves, and prints decisions as they are made: `cargo run -p vkernel-client --example ask [SOCKET]`.

use vkernel_client::{Client, Error, Request, SOCKET};

fn main() -> Result<(), Error> {
    let socket = std::env::args().nth(1).unwrap_or_else(|| SOCKET.to_owned());
    let mut client = Client::connect(socket.as_ref())?;
    println!("{:#}", client.result(&Request::Status)?);
    println!("{:#}", client.result(&Request::Ps { all: false })?);
    client.stream(&Request::Events { container: None }, |event| {
        println!("{event}");
        true
    })
}
