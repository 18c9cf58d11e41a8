//! Who is let in, and for how long.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::client::Served;

/// Only bounds a failure.
const LIMIT: Duration = Duration::from_secs(20);

async fn connect(served: &Served, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(from)), 0)).expect("a local address");
    socket.connect(served.address()).await.expect("it listens")
}

/// Whether ApiVersions is answered; a refused connection is closed instead.
async fn is_served(stream: &mut TcpStream) -> bool {
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0];
    let mut answer = [0; 4];
    if stream.write_all(&REQUEST).await.is_err() || stream.read_exact(&mut answer).await.is_err() {
        return false;
    }
    let length = u32::from_be_bytes(answer);
    let mut rest = stream.take(u64::from(length));
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.is_ok_and(|it| it == u64::from(length))
}

/// A new connection that is served, as soon as the broker has noticed that another one has gone.
async fn connect_once_free(served: &Served, from: [u8; 4]) -> TcpStream {
    let attempts = async {
        loop {
            let mut stream = connect(served, from).await;
            if is_served(&mut stream).await {
                return stream;
            }
        }
    };
    tokio::time::timeout(LIMIT, attempts).await.expect("a place becomes free")
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let settings =
        [("max.connections.per.ip", "2"), ("max.connections.per.ip.overrides", "127.0.0.3:1")];
    let served = Served::start(&settings).await;
    let (one, other, named) = ([127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]);
    let mut first = connect(&served, one).await;
    let mut second = connect(&served, one).await;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    assert!(!is_served(&mut connect(&served, one).await).await, "a third");
    let mut elsewhere = connect(&served, other).await;
    assert!(is_served(&mut elsewhere).await, "another address has its own");
    let mut only = connect(&served, named).await;
    assert!(is_served(&mut only).await);
    assert!(!is_served(&mut connect(&served, named).await).await, "the override is lower");
    drop(first);
    let _third = connect_once_free(&served, one).await;
    assert!(is_served(&mut second).await, "who was there is not disturbed");
    served.stop().await;
}

#[tokio::test]
async fn the_broker_has_a_limit_of_its_own() {
    let served = Served::start(&[("max.connections", "1")]).await;
    let mut first = connect(&served, [127, 0, 0, 1]).await;
    assert!(is_served(&mut first).await);
    assert!(!is_served(&mut connect(&served, [127, 0, 0, 2]).await).await);
    drop(first);
    connect_once_free(&served, [127, 0, 0, 2]).await;
    served.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let served = Served::start(&[("connections.max.idle.ms", "50")]).await;
    let mut stream = connect(&served, [127, 0, 0, 1]).await;
    assert!(is_served(&mut stream).await);
    let closed = tokio::time::timeout(LIMIT, stream.read(&mut [0])).await.expect("in time");
    assert!(matches!(closed, Ok(0)), "{closed:?}");
    served.stop().await;
}
