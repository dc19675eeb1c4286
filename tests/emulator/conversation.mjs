// A whole conversation over Google's JavaScript SDK. Arguments: the emulator's address, a file of raw 16 kHz PCM.
// Prints one JSON object: what was said in each turn.
import {readFileSync} from 'node:fs';
import {GoogleGenAI, Modality} from '@google/genai';

const [baseUrl, pcmFile] = process.argv.slice(2);
const ai = new GoogleGenAI({apiKey: 'x', httpOptions: {baseUrl, apiVersion: 'v1beta'}});

class Talk {
  static async open(config) {
    const talk = new Talk();
    talk.messages = [];
    talk.handle = null;
    talk.session = await ai.live.connect({
      model: 'gemini-3.8-live',
      config: {
        responseModalities: [Modality.AUDIO],
        inputAudioTranscription: {},
        outputAudioTranscription: {},
        ...config,
      },
      callbacks: {
        onmessage: message => talk.take(message),
        onclose: event => talk.onclose?.({code: event.code, reason: event.reason}),
      },
    });
    return talk;
  }

  take(message) {
    this.handle = message.sessionResumptionUpdate?.newHandle ?? this.handle;
    this.messages.push(message);
    this.wake?.();
  }

  // All messages up to the first for which `last` is true.
  async until(last) {
    let at = 0;
    for (;;) {
      for (; at < this.messages.length; at++) {
        if (last(this.messages[at])) return this.messages.splice(0, at + 1);
      }
      await new Promise(resolve => (this.wake = resolve));
    }
  }

  async turn() {
    const messages = await this.until(message => message.serverContent?.turnComplete);
    const text = field => messages.map(message => message.serverContent?.[field]?.text ?? '').join('');
    return {
      heard: text('inputTranscription'),
      said: text('outputTranscription'),
      audioBytes: messages
        .flatMap(message => message.serverContent?.modelTurn?.parts ?? [])
        .reduce((sum, part) => sum + Buffer.from(part.inlineData?.data ?? '', 'base64').length, 0),
      interrupted: messages.some(message => message.serverContent?.interrupted),
      tokens: messages.at(-1).usageMetadata?.totalTokenCount ?? 0,
    };
  }
}

const result = {};
const talk = await Talk.open({
  sessionResumption: {},
  tools: [{functionDeclarations: [{name: 'get_weather', behavior: 'BLOCKING'}]}],
});

talk.session.sendClientContent({turns: 'hello', turnComplete: true});
result.text = await talk.turn();

const pcm = readFileSync(pcmFile);
for (let at = 0; at < pcm.length; at += 3200) {
  const data = pcm.subarray(at, at + 3200).toString('base64');
  talk.session.sendRealtimeInput({audio: {data, mimeType: 'audio/pcm;rate=16000'}});
}
result.speech = await talk.turn();

talk.session.sendRealtimeInput({text: 'call get_weather'});
const asked = (await talk.until(message => message.toolCall)).at(-1).toolCall.functionCalls[0];
talk.session.sendToolResponse({
  functionResponses: [{id: asked.id, name: asked.name, response: {output: 'sunny'}}],
});
result.tool = await talk.turn();
await talk.until(message => message.sessionResumptionUpdate?.resumable);
talk.session.close();

const resumed = await Talk.open({sessionResumption: {handle: talk.handle}});
resumed.session.sendRealtimeInput({text: 'how many turns'});
result.resumed = await resumed.turn();

const closed = new Promise(resolve => (resumed.onclose = resolve));
resumed.session.sendRealtimeInput({activityStart: {}});
result.closed = await closed;

console.log(JSON.stringify(result));
