//! A vector clock.

/// Steps by agent; missing ones are zero.
#[derive(Debug, Clone, Default)]
pub struct Clock(Vec<u32>);

impl Clock {
    pub fn get(&self, agent: usize) -> u32 {
        self.0.get(agent).copied().unwrap_or(0)
    }

    pub fn raise(&mut self, agent: usize, step: u32) {
        if self.0.len() <= agent {
            self.0.resize(agent + 1, 0);
        }
        self.0[agent] = self.0[agent].max(step);
    }

    /// Agents with their steps, but for those without any.
    pub fn steps(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let all = self.0.iter().copied().enumerate();
        all.filter(|(_, step)| *step > 0)
    }

    /// Joins the steps of agents from this one on.
    pub fn join_from(&mut self, other: &Clock, first: usize) {
        for (agent, step) in other.steps().filter(|(agent, _)| *agent >= first) {
            self.raise(agent, step);
        }
    }

    pub fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }
}
