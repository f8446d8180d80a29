// The page's side of the worker: it asks questions and receives the answers.

class Networks {
  /** `run` is the page's contents; separate elements hold the weights and the worker's code. */
  constructor(run) {
    this.questions = new Map(); // open ones, by number
    this.asked = 0;
    this.worker = new Worker(URL.createObjectURL(new Blob([byId("worker").textContent], { type: "text/javascript" })));
    this.worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.questions.get(id);
      this.questions.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.worker.onerror = () => (byId("decision").textContent = "This browser does not allow the networks to run here.");
    this.ask("load", { networks: run.networks, weights: ["generator-weights", "discriminator-weights"].map((id) => byId(id).textContent) });
  }

  /** A promise of the result of a task in worker.js; it rejects with the error from there. */
  ask(task, argument) {
    const id = this.asked++;
    return new Promise((resolve, reject) => {
      this.questions.set(id, { resolve, reject });
      this.worker.postMessage({ id, task, argument });
    });
  }

  /** A function of the task's argument that calls `show`(result, argument). At most two questions are open: one being
   * computed, and one waiting, so that the worker is never idle. Of the others only the newest is asked, since a
   * slider can move faster than the networks compute. */
  latest(task, show) {
    let newest = 0, turns = [Promise.resolve(), Promise.resolve()];
    return (argument) => {
      const number = ++newest;
      const mine = turns[0].then(async () => number === newest && show(await this.ask(task, argument), argument));
      turns = [turns[1], mine.catch(() => {})]; // a failure does not stop the next ones
      return mine;
    };
  }
}
