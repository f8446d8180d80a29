// The page's side of the worker: questions and their answers.

class Networks {
  /** `run` is the page's contents; the weights and the worker's text lie in elements of their own. */
  constructor(run) {
    this.questions = new Map(); // without an answer yet, by number
    this.asked = 0;
    this.worker = new Worker(URL.createObjectURL(new Blob([byId("worker").textContent], { type: "text/javascript" })));
    this.worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.questions.get(id);
      this.questions.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.worker.onerror = () => (byId("decision").textContent = "This browser does not let the networks run here.");
    this.ask("load", { networks: run.networks, weights: ["generator-weights", "discriminator-weights"].map((id) => byId(id).textContent) });
  }

  /** A promise of what the task of this name in worker.js returns; it fails with what went wrong there. */
  ask(task, argument) {
    const id = this.asked++;
    return new Promise((resolve, reject) => {
      this.questions.set(id, { resolve, reject });
      this.worker.postMessage({ id, task, argument });
    });
  }

  /** A function of the task's argument that calls `show`(result, argument). At most two questions are open, one that
   * is computed and one that waits, so that the worker never does; of those that come meanwhile only the newest is
   * asked: a slider may move faster than the networks compute. */
  latest(task, show) {
    let newest = 0, turns = [Promise.resolve(), Promise.resolve()];
    return (argument) => {
      const number = ++newest;
      const mine = turns[0].then(async () => number === newest && show(await this.ask(task, argument), argument));
      turns = [turns[1], mine.catch(() => {})]; // the next ones are asked all the same
      return mine;
    };
  }
}
