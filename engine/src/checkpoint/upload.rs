//! Threads that put snapshots and chunks into the checkpoint storage, so that no worker waits for a disk.

use millrace_durable::{FileRef, JobLog};
use millrace_sdk::Fault;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Files that are stored at a time.
const THREADS: usize = 2;

type Task = Box<dyn FnOnce(&JobLog) + Send>;

/// A queue of things to store.
pub struct Uploads {
    tasks: Mutex<Option<Sender<Task>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Uploads {
    pub fn start(log: &Arc<JobLog>) -> Result<Uploads, Fault> {
        let (tasks, todo) = channel::<Task>();
        let todo = Arc::new(Mutex::new(todo));
        let threads = (0..THREADS).map(|i| {
            let (todo, log) = (todo.clone(), log.clone());
            let thread = std::thread::Builder::new().name(format!("checkpoint-{i}"));
            thread.spawn(move || work(&todo, &log)).map_err(|e| Fault::refused(format!("threads for checkpoints cannot be started: {e}")))
        });
        Ok(Uploads { threads: Mutex::new(threads.collect::<Result<_, _>>()?), tasks: Mutex::new(Some(tasks)) })
    }

    /// Runs a task on one of the threads; tasks may overtake each other.
    pub fn run(&self, task: impl FnOnce(&JobLog) + Send + 'static) {
        if let Some(tasks) = &*self.tasks.lock().unwrap_or_else(|e| e.into_inner()) {
            // The threads end only when the sender does.
            let _ = tasks.send(Box::new(task));
        }
    }

    /// Stores some bytes and says how it went.
    pub fn put(&self, name: String, bytes: Vec<u8>, done: impl FnOnce(Result<FileRef, Fault>) + Send + 'static) {
        self.run(move |log| done(log.put(&name, &bytes)));
    }

    /// Ends the threads after what is queued.
    pub fn stop(&self) {
        *self.tasks.lock().unwrap_or_else(|e| e.into_inner()) = None;
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(|e| e.into_inner())) {
            let _ = thread.join();
        }
    }
}

fn work(todo: &Mutex<Receiver<Task>>, log: &JobLog) {
    loop {
        let task = todo.lock().unwrap_or_else(|e| e.into_inner()).recv();
        match task {
            Ok(task) => task(log),
            Err(_) => return,
        }
    }
}
