//! Reports waiting for the link: only the newest of each thing is kept, so a controller that is away for days costs nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::reports::{Report, Sequenced};

/// Takes reports from the node's parts and hands them to the link. Cheap to clone.
#[derive(Clone, Default)]
pub struct Reporter {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    order: VecDeque<Topic>,
    newest: HashMap<Topic, Report>,
    sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Topic {
    Node,
    Heartbeat,
    Server(Uuid),
    Port(Uuid),
    Password(Uuid),
    Inventory,
}

fn topic(report: &Report) -> Topic {
    match report {
        Report::Node(_) => Topic::Node,
        Report::Heartbeat(_) => Topic::Heartbeat,
        Report::Server(server) => Topic::Server(server.id),
        Report::ServerGone { id } => Topic::Server(*id),
        Report::Port(port) => Topic::Port(port.id),
        Report::ServerPassword { id, .. } => Topic::Password(*id),
        Report::Inventory { .. } => Topic::Inventory,
    }
}

impl Reporter {
    /// Reports; replaces an older report of the same thing that is still waiting.
    pub fn report(&self, report: Report) {
        {
            let mut queue = self.inner.queue.lock();
            let topic = topic(&report);
            if queue.newest.insert(topic, report).is_some() {
                // To the end: it must not overtake what was reported in between (a server never before its port, say).
                queue.order.retain(|t| *t != topic);
            }
            queue.order.push_back(topic);
        }
        self.inner.filled.notify_one();
    }

    /// The next report, as soon as there is one. Not lost when the future is dropped.
    pub async fn next(&self) -> Sequenced {
        loop {
            let filled = self.inner.filled.notified();
            if let Some(report) = self.take() {
                return report;
            }
            filled.await;
        }
    }

    fn take(&self) -> Option<Sequenced> {
        let mut queue = self.inner.queue.lock();
        let topic = queue.order.pop_front()?;
        let report = queue.newest.remove(&topic)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_micros() as u64);
        queue.sequence = now.max(queue.sequence + 1);
        Some(Sequenced {
            sequence: queue.sequence,
            report,
        })
    }

    /// Forgets what waits, except passwords, which cannot be observed again: after the next connection everything is said anew.
    pub fn disconnected(&self) {
        let mut queue = self.inner.queue.lock();
        queue.newest.retain(|topic, _| matches!(topic, Topic::Password(_)));
        queue.order.retain(|topic| matches!(topic, Topic::Password(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_newest_of_each_thing_is_sent_and_numbers_rise() {
        let reporter = Reporter::default();
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        for id in [a, b, a] {
            reporter.report(Report::ServerGone { id });
        }
        let (first, second) = (reporter.next().await, reporter.next().await);
        assert_eq!(first.report, Report::ServerGone { id: b });
        assert_eq!(second.report, Report::ServerGone { id: a });
        assert!(second.sequence > first.sequence);
        assert!(reporter.take().is_none());
    }

    #[tokio::test]
    async fn a_password_outlives_the_link() {
        let reporter = Reporter::default();
        let id = Uuid::new_v4();
        reporter.report(Report::ServerGone { id });
        reporter.report(Report::ServerPassword {
            id,
            password: crate::objects::Secret::new("x"),
        });
        reporter.disconnected();
        assert!(matches!(reporter.next().await.report, Report::ServerPassword { .. }));
        assert!(reporter.take().is_none());
    }
}
