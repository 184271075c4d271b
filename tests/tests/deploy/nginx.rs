//! What nginx does with requests by the file of `deploy/cluster`, with servers that say what they were sent instead of nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use halley_tests::{AFFINITY, Balancer, Choice, Connection, Place, Program};
use hyper::Request;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Answers with this status.
    Says(u16),
    /// Reads it and closes the connection.
    Breaks,
    /// Is not there.
    Gone,
}

struct It {
    balancer: Balancer,
    /// The request lines that each server was sent.
    seen: Vec<Arc<Mutex<Vec<String>>>>,
}

impl It {
    async fn start(manners: [Manner; 3]) -> It {
        let mut places = Vec::new();
        let mut seen = Vec::new();
        for (number, manner) in (1..).zip(manners) {
            let lines = Arc::default();
            let address = serve(manner, Arc::clone(&lines)).await;
            places.push(Place {
                name: format!("halley-{number}"),
                public: address,
                internal: address,
            });
            seen.push(lines);
        }
        let balancer = Balancer::before(&places, Program::Nginx, Choice::Affinity).await;
        It { balancer, seen }
    }

    /// The status of a request of a client that is at the node with this number.
    async fn ask(&self, method: &str, at: Option<usize>) -> u16 {
        let mut head = Request::builder().method(method).uri("/cometd");
        if let Some(number) = at {
            head = head.header("cookie", format!("a=b; {AFFINITY}=halley-{number}"));
        }
        if method == "GET" {
            head = head
                .header("connection", "upgrade")
                .header("upgrade", "websocket");
        }
        self.send(self.balancer.address, head).await
    }

    async fn send(&self, to: SocketAddr, head: hyper::http::request::Builder) -> u16 {
        let mut connection = Connection::new(to, Duration::from_secs(10));
        let answer = connection.send(head, "[]".into()).await;
        answer.expect("an answer").status.as_u16()
    }

    /// How many requests each server was sent.
    fn counts(&self) -> Vec<usize> {
        self.seen.iter().map(|lines| lines.lock().len()).collect()
    }
}

async fn serve(manner: Manner, seen: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    if manner != Manner::Gone {
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(attend(stream, manner, Arc::clone(&seen)));
            }
        });
    }
    address
}

async fn attend(mut stream: TcpStream, manner: Manner, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    // The body is two brackets.
    while !request.ends_with(b"\r\n\r\n[]") {
        match stream.read_buf(&mut request).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    seen.lock()
        .push(text.lines().next().unwrap_or_default().to_owned());
    if let Manner::Says(status) = manner {
        let answer = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_post_that_a_node_was_sent_is_sent_to_no_other() {
    let it = It::start([Manner::Breaks; 3]).await;
    assert_eq!(it.ask("POST", Some(1)).await, 502);
    assert_eq!(it.counts(), [1, 0, 0]);
}

#[tokio::test]
async fn a_post_that_a_node_answers_503_is_answered_so() {
    let it = It::start([Manner::Says(503), Manner::Says(200), Manner::Says(200)]).await;
    assert_eq!(it.ask("POST", Some(1)).await, 503);
    assert_eq!(it.counts(), [1, 0, 0]);
}

#[tokio::test]
async fn a_post_that_a_node_does_not_take_goes_to_another() {
    let it = It::start([Manner::Gone, Manner::Says(200), Manner::Says(200)]).await;
    assert_eq!(it.ask("POST", Some(1)).await, 200);
    assert_eq!(it.counts().iter().sum::<usize>(), 1);
}

#[tokio::test]
async fn an_upgrade_that_a_node_answers_503_goes_to_another() {
    let it = It::start([Manner::Says(503), Manner::Says(200), Manner::Says(200)]).await;
    assert_eq!(it.ask("GET", Some(1)).await, 200);
    let counts = it.counts();
    assert_eq!((counts[0], counts[1] + counts[2]), (1, 1));
}

#[tokio::test]
async fn a_client_goes_where_its_cookie_says_and_round_without_one() {
    let it = It::start([Manner::Says(200); 3]).await;
    for _ in 0..6 {
        it.ask("POST", Some(2)).await;
    }
    assert_eq!(it.counts(), [0, 6, 0]);
    for _ in 0..6 {
        it.ask("POST", None).await;
    }
    assert_eq!(it.counts(), [2, 8, 2]);
    it.ask("POST", Some(4)).await;
    assert_eq!(it.counts().iter().sum::<usize>(), 13, "nobody is called so");
}

#[tokio::test]
async fn publishers_reach_what_is_theirs_and_nothing_else() {
    let it = It::start([Manner::Says(201); 3]).await;
    for (path, status) in [
        ("/api/v1/events", 201),
        ("/api/v1/events/x", 404),
        ("/metrics", 404),
    ] {
        let head = Request::post(path);
        assert_eq!(it.send(it.balancer.publishing, head).await, status, "{path}");
    }
    assert_eq!(it.counts().iter().sum::<usize>(), 1);
}
