//! What a client that means harm costs hopspan, beside what it costs the client: memory by its bytes on the wire, CPU
//! time by its own. hopspan is a process of its own here, and a new one for each row; the client is one thread that
//! makes each frame anew.
//!
//! CPU time of a debug build says nothing: that column is held to its bound where `HOPSPAN_TEST_BINARY` names a release
//! build. `HOPSPAN_TEST_LONG=1` multiplies the sizes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::{cost, long};
use crate::support::app::{self, App, ReplyExt};
use crate::support::h2::{self, frame};
use crate::support::{binary, client, sidecar};

/// What a client sends for a connection without a byte of its own: SYN, ACK and FIN with their heads of IP and TCP.
const PACKETS: usize = 60 + 52 + 52;
/// What it sends with each piece, or to say that it has an answer: these heads.
const HEADS: usize = 52;

/// A client's side of an attack.
struct Attack {
    to: SocketAddr,
    status: SocketAddr,
    /// How much of everything.
    times: usize,
    /// Bytes sent, those that open and close connections among them.
    wire: usize,
    /// Connections that stay open until all is measured.
    held: Vec<TcpStream>,
}

impl Attack {
    fn connect(&mut self) -> TcpStream {
        self.wire += PACKETS;
        let stream = TcpStream::connect(self.to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        stream
    }

    /// Whether the other side took it.
    fn send(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> bool {
        self.wire += bytes.len() + HEADS;
        stream.write_all(bytes).is_ok()
    }

    /// Connections that each send the same and are held.
    fn hold(&mut self, count: usize, bytes: &[u8]) {
        for _ in 0..count {
            let mut stream = self.connect();
            self.send(&mut stream, bytes);
            self.held.push(stream);
        }
    }

    /// Connections that each have had an answer and rest, but for as many as come at once.
    fn rest(&mut self, count: usize) {
        for _ in 0..count {
            let mut stream = self.connect();
            self.send(&mut stream, GET);
            let mut answer = Vec::new();
            while !answer.ends_with(b"ok") {
                let mut some = [0; 1024];
                let read = stream.read(&mut some).unwrap();
                assert!(read > 0);
                answer.extend_from_slice(&some[..read]);
            }
            self.wire += HEADS;
            self.held.push(stream);
        }
        let resting = format!("hopspan_connections_resting {}\n", self.held.len());
        while !self.metrics().contains(&resting) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.status).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: hopspan\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// An HTTP/2 connection with these settings.
    fn http2(&mut self, settings: &[(u16, u32)]) -> TcpStream {
        let mut stream = self.connect();
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.send(&mut stream, h2::PREFACE);
        self.send(&mut stream, &frame(h2::SETTINGS, 0, 0, &payload));
        stream
    }

    /// Sends `count` frames or groups of them, each made anew, on connections that are opened again when they end; what
    /// comes back is read now and then, so that nothing waits for it.
    fn flood(&mut self, count: usize, begin: &[u8], make: impl Fn(u32) -> Vec<u8>) {
        let mut sent = 0;
        while sent < count {
            let mut stream = self.http2(&[]);
            self.send(&mut stream, begin);
            let mut reader = stream.try_clone().unwrap();
            reader.set_nonblocking(true).unwrap();
            let mut scratch = [0; 65536];
            for number in 0.. {
                let mut batch = Vec::new();
                for at in 0..100 {
                    batch.extend(make(number * 100 + at));
                }
                stream.set_nonblocking(false).unwrap();
                let taken = self.send(&mut stream, &batch);
                sent += 100;
                if !taken || sent >= count || number > 100_000 {
                    break;
                }
                stream.set_nonblocking(true).unwrap();
                let end = loop {
                    match reader.read(&mut scratch) {
                        Ok(0) => break true,
                        Ok(_) => {}
                        Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
                    }
                };
                if end {
                    break;
                }
            }
            stream.set_nonblocking(false).unwrap();
            let _ = stream.shutdown(Shutdown::Write);
            while stream.read(&mut scratch).is_ok_and(|read| read > 0) {}
        }
    }
}

/// How a row is held to its bound.
enum Bound {
    /// hopspan's memory and CPU time, by the client's bytes and CPU time: below 20 and below 10.
    Ratio,
    /// KiB of memory for each connection that is held. What waits costs what it costs, however few bytes asked for it:
    /// the limits on connections and streams bound the sum, a deadline its time.
    Held(usize),
}

struct Row {
    name: &'static str,
    run: fn(&mut Attack),
    bound: Bound,
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

fn whole(stream: u32) -> Vec<u8> {
    frame(h2::HEADERS, h2::WHOLE, stream, &h2::hpack(&h2::get("/")))
}

/// 100 streams whose heads are one large entry of the table, told again and again (CVE-2026-49975), by a client that
/// opens no window.
fn bomb(attack: &mut Attack) {
    for _ in 0..16 * attack.times {
        let mut stream = attack.http2(&[(4, 0)]);
        for number in 0..100_u32 {
            let mut block = h2::hpack(&h2::get("/"));
            if number == 0 {
                // Literal with incremental indexing (RFC 7541 section 6.2.1), a name and 3,900 bytes.
                block.extend([0x40, 1, b'x', 127]);
                block.extend([0xbd, 0x1d]);
                block.extend([b'v'; 3900]);
            }
            // Entry 62, the newest, three times: 12 KiB in three bytes.
            block.extend([0xbe; 3]);
            // And crumbs of a cookie, which are fields, too.
            block.extend([0x00, 6].iter().chain(b"cookie").chain(&[3]).chain(b"a=b"));
            let head = frame(h2::HEADERS, h2::WHOLE, number * 2 + 1, &block);
            attack.send(&mut stream, &head);
        }
        attack.held.push(stream);
    }
}

/// 16 streams with so many bytes of content each, in pieces, that the app does not read: as much as the connection's window
/// lets through.
fn stalled_uploads(attack: &mut Attack, each: usize, piece: usize) {
    let mut stream = attack.http2(&[]);
    let mut head = h2::get("/up");
    head.iter_mut()
        .filter(|field| field.0 == ":method")
        .for_each(|field| field.1 = "POST");
    for number in 0..16 {
        let head = frame(
            h2::HEADERS,
            h2::END_HEADERS,
            number * 2 + 1,
            &h2::hpack(&head),
        );
        attack.send(&mut stream, &head);
    }
    stream.set_read_timeout(None).unwrap();
    assert!(h2::read_until(&mut stream, h2::WINDOW_UPDATE));
    for number in 0..16 {
        let mut content = Vec::new();
        for at in (0..each).step_by(piece) {
            let piece = vec![b'x'; piece.min(each - at)];
            content.extend(frame(h2::DATA, 0, number * 2 + 1, &piece));
        }
        attack.send(&mut stream, &content);
    }
    attack.held.push(stream);
}

fn rows() -> Vec<Row> {
    use Bound::{Held, Ratio};
    let row = |name, bound, run| Row { name, run, bound };
    vec![
        row("silent connections", Ratio, |a| {
            a.hold(1500 * a.times, b"");
        }),
        row("slow heads", Ratio, |a| {
            a.hold(1500 * a.times, b"GET / HTTP/1.1\r\nHost: shop\r\nX-A: ");
        }),
        // The spans of the requests that wait to be exported are counted with them.
        row("connections that rest after a request", Held(8), |a| {
            for _ in 0..15 {
                a.rest(100 * a.times);
            }
        }),
        row("slow large heads", Ratio, |a| {
            let head = format!(
                "GET / HTTP/1.1\r\nHost: shop\r\nX-A: {}",
                "v".repeat(30_000)
            );
            a.hold(200 * a.times, head.as_bytes());
        }),
        row("slow bodies", Held(56), |a| {
            a.hold(
                200 * a.times,
                b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000000\r\n\r\nx",
            );
        }),
        row("slow readers", Held(112), |a| {
            a.hold(100 * a.times, b"GET /large HTTP/1.1\r\nHost: shop\r\n\r\n");
        }),
        row("slow readers of HTTP/2, 20 streams each", Held(2048), |a| {
            for _ in 0..10 * a.times {
                let mut stream = a.http2(&[]);
                for number in 0..20 {
                    let head = h2::hpack(&h2::get("/large"));
                    a.send(
                        &mut stream,
                        &frame(h2::HEADERS, h2::WHOLE, number * 2 + 1, &head),
                    );
                }
                a.held.push(stream);
            }
        }),
        row(
            "uploads of HTTP/2 that stall, 16 streams each",
            Ratio,
            |a| {
                for _ in 0..10 * a.times {
                    stalled_uploads(a, 65_535, 16_384);
                }
            },
        ),
        row("small pieces of such uploads", Ratio, |a| {
            for _ in 0..4 * a.times {
                stalled_uploads(a, 60_000, 256);
            }
        }),
        row("connections, one request each", Ratio, |a| {
            for _ in 0..2000 * a.times {
                let mut stream = a.connect();
                a.send(
                    &mut stream,
                    b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n",
                );
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }),
        row("connections that leave at once", Ratio, |a| {
            for _ in 0..4000 * a.times {
                drop(a.connect());
            }
        }),
        row("pipelined requests", Ratio, |a| {
            let mut stream = a.connect();
            // Answers are waited for here, for as long as they take.
            stream.set_read_timeout(None).unwrap();
            for _ in 0..50 * a.times {
                a.send(&mut stream, &GET.repeat(100));
                let mut answers = 0;
                let mut bytes = vec![0; 65536];
                while answers < 100 {
                    let read = stream.read(&mut bytes).unwrap();
                    assert!(read > 0);
                    answers += bytes[..read]
                        .windows(9)
                        .filter(|at| at == b"HTTP/1.1 ")
                        .count();
                }
            }
        }),
        row("rapid reset", Ratio, |a| {
            a.flood(40_000 * a.times, b"", |number| {
                let reset = frame(h2::RST_STREAM, 0, number * 2 + 1, &8_u32.to_be_bytes());
                [whole(number * 2 + 1), reset].concat()
            });
        }),
        row("resets that we are made to send", Ratio, |a| {
            a.flood(40_000 * a.times, b"", |number| {
                let stream = number * 2 + 1;
                [whole(stream), frame(h2::WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
            });
        }),
        row("continuations", Ratio, |a| {
            let begin = frame(h2::HEADERS, h2::END_STREAM, 1, &h2::hpack(&h2::get("/")));
            a.flood(20_000 * a.times, &begin, |_| {
                frame(
                    h2::CONTINUATION,
                    0,
                    1,
                    &h2::hpack(&[("x-fill", "yyyyyyyyyyyyyyyy")]),
                )
            });
        }),
        row("empty continuations", Ratio, |a| {
            let begin = frame(h2::HEADERS, h2::END_STREAM, 1, &h2::hpack(&h2::get("/")));
            a.flood(40_000 * a.times, &begin, |_| {
                frame(h2::CONTINUATION, 0, 1, b"")
            });
        }),
        row("empty data", Ratio, |a| {
            let begin = frame(h2::HEADERS, h2::END_HEADERS, 1, &h2::hpack(&h2::get("/")));
            a.flood(100_000 * a.times, &begin, |_| frame(h2::DATA, 0, 1, b""));
        }),
        row("settings", Ratio, |a| {
            a.flood(100_000 * a.times, b"", |number| {
                frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, (number % 200) as u8, 0])
            });
        }),
        row("pings", Ratio, |a| {
            a.flood(100_000 * a.times, b"", |number| {
                frame(h2::PING, 0, 0, &u64::from(number).to_be_bytes())
            });
        }),
        row("priorities", Ratio, |a| {
            a.flood(100_000 * a.times, b"", |number| {
                frame(h2::PRIORITY, 0, number * 2 + 1, &[0, 0, 0, 0, 16])
            });
        }),
        row("window updates", Ratio, |a| {
            a.flood(100_000 * a.times, b"", |_| {
                frame(h2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])
            });
        }),
        row("frames nobody knows", Ratio, |a| {
            a.flood(100_000 * a.times, b"", |_| {
                frame(0x42, 0, 0, b"what is this")
            });
        }),
        row("HPACK bombs, 100 streams each", Ratio, bomb),
    ]
}

async fn app() -> App {
    app::http()
        .streaming("/large", |_| async { app::endless() })
        .streaming("/up", |_| std::future::pending())
        .any(|_| async { app::reply(200).text("ok") })
        .run()
        .await
}

/// Waits until a process no longer does anything.
async fn settled(pid: u32) {
    let mut before = cost::cpu(pid);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = cost::cpu(pid);
        if now - before < Duration::from_millis(2) {
            return;
        }
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_abuse_costs() {
    let release = std::env::var_os("HOPSPAN_TEST_BINARY").is_some();
    let times = long(1, 5);
    let app = app().await;
    let (mut failures, mut ran) = (Vec::new(), 0);
    println!(
        "{:42} {:>10} {:>10} {:>8} {:>9} {:>9} {:>6}",
        "", "wire", "memory", "ratio", "client", "hopspan", "ratio"
    );
    for row in rows() {
        let hopspan = binary::warm(sidecar::to(app.address)).await;
        let pid = hopspan.process.pid();
        settled(pid).await;
        let (memory, cpu) = (cost::memory(pid, "VmHWM"), cost::cpu(pid));
        let mut attack = Attack {
            to: hopspan.inbound,
            status: hopspan.status,
            times,
            wire: 0,
            held: Vec::new(),
        };
        let run = row.run;
        let (attack, client) = tokio::task::spawn_blocking(move || {
            let before = cost::own_cpu();
            run(&mut attack);
            (attack, cost::own_cpu() - before)
        })
        .await
        .unwrap();
        settled(pid).await;
        let cpu = cost::cpu(pid) - cpu;
        // The kernel counts pages on each CPU and adds up now and then: the peak may look lower than it was.
        let memory = cost::memory(pid, "VmHWM").saturating_sub(memory);
        let by_wire = (memory * 1024) as f64 / attack.wire.max(1) as f64;
        let by_cpu = cpu.as_secs_f64() / client.as_secs_f64();
        println!(
            "{:42} {:>8} B {:>6} KiB {by_wire:>8.2} {:>6.1} ms {:>6.1} ms {by_cpu:>6.2}{}",
            row.name,
            attack.wire,
            memory,
            client.as_secs_f64() * 1e3,
            cpu.as_secs_f64() * 1e3,
            match attack.held.len() {
                0 => String::new(),
                held => format!("  {:.1} KiB each of {held}", memory as f64 / held as f64),
            }
        );
        let good = match row.bound {
            // What one connection may take anyway is no leverage.
            Bound::Ratio => by_wire < 20.0 || memory < 4096,
            Bound::Held(each) => memory < each * attack.held.len() + 4096,
        };
        if !good || (release && matches!(row.bound, Bound::Ratio) && by_cpu >= 10.0) {
            failures.push(row.name);
        }
        drop(attack);
        let answer = client::get(hopspan.inbound, "/").send().await;
        assert_eq!(answer.status, 200, "it goes on after: {}", row.name);
        ran += 1;
    }
    assert_eq!(ran, rows().len());
    assert!(failures.is_empty(), "above their bounds: {failures:?}");
}
