// The page's texts: key|中文|English, which is the key if there is none. {0} is given with the key.
const WORDS = new Map(`
API docs|接口文档
Account|账号
Chats|对话
The wire|请求与事件
Accounts, and an agent to talk to|账号，和一个能对话的 Agent
lead|注册后即可开始对话，每个请求都显示在下方。|Sign up, start a chat, and see each request below.
Sign up|注册
Sign in|登录
Sign out|退出登录
You are signed out.|您已退出登录。
Have an account? Sign in|已有账号？登录
No account yet? Sign up|没有账号？注册
Username|用户名
Email|邮箱
Password|密码
Code|验证码
Check your mail|请查收邮件
codeSent|验证码已发往 {0}，10 分钟内有效。|A code is on its way to {0}. It is good for 10 minutes.
Finish signing up|完成注册
Send it again|重新发送
Sent again.|已重新发送。
Back|返回
Mail|收到的邮件
A mail has arrived: {0}|收到邮件：{0}
Use code {0}|填入验证码 {0}
Edit profile|编辑资料
Avatar URL|头像地址
Bio|简介
Save|保存
Cancel|取消
Sessions|登录的设备
This one|本设备
End|结束
End the session on {0}|结束“{0}”的会话
Security events|安全事件
More|更多
Administration|管理
Search|搜索
runs|运行
mails|邮件
limits|限制
health|状况
Disable|停用
Enable|启用
End sessions|结束会话
Your data|我的数据
Export data|导出数据
Erase account|删除账号
eraseText|账号、会话和所有对话都会被抹去，无法撤销。请输入密码确认。|Your account, sessions and chats will be gone for good. Enter your password to confirm.
Your account is erased.|账号已删除。
New chat|新对话
All chats|全部对话
No chats yet|还没有对话
What would you like to ask?|今天想聊点什么？
try1|我是谁？12 * (3 + 4) 等于几？|Who am I, and what is 12 * (3 + 4)?
Message|消息
hint|输入消息，按回车发送|Write a message, Enter sends it
Send|发送
Edit|修改
Regenerate|重新回答
Stop|停止
Rename|重命名
Title|标题
Delete|删除
deleteText|“{0}”及其中的一切都会被抹去。|“{0}” and everything in it will be gone.
Earlier messages|更早的消息
Conversation|对话内容
You|您
Reasoning|思考过程
Tool {0}|工具 {0}
Arguments|参数
Result|结果
Answering…|正在回答…
Answer complete: {0}|回答完毕：{0}
Left today|今日剩余用量
{0} of {1} tokens until {2}|{0} / {1} token，{2} 重置
lost|连接中断，回答未读完。|The connection was lost before the end.
Read on|继续读取
wireNote|复制的 curl 命令含有您的 token。|A copied curl line has your token in it.
Requests|请求
Events|事件
Cut the connection|切断连接
isCut|连接已在第 {0} 个事件后切断，回答仍在继续。|Cut after event {0}. The answer goes on.
Resumed after event {0}.|从第 {0} 个事件之后继续。
Copy|复制
Copy {0}|复制 {0}
Copied.|已复制。
notCopied|浏览器不允许复制。|The browser does not allow copying.
signed up|注册
signed in|登录
sign in refused|登录被拒绝
session moved|会话换了设备或网络
refresh token repeated|从别处再次刷新
email change requested|请求更换邮箱
email changed|邮箱已更换
email change undone|已恢复原邮箱
password changed|密码已修改
password reset|密码已重设
password refused|密码被拒绝
code refused|验证码被拒绝
refresh token reused|旧的 refresh token 被使用
signed out|退出登录
session ended|会话被结束
other sessions ended|其他会话被结束
all sessions ended|所有会话被结束
exported|导出数据
disabled|账号被停用
enabled|账号已恢复
promoted|成为管理员
demoted|不再是管理员
`.trim().split("\n").map((line) => line.split("|")).map(([key, zh, en = key]) => [key, { zh, en }]));

const KEY = "page.language";

export let language = localStorage.getItem(KEY) ?? (/^zh/.test(navigator.language) ? "zh" : "en");

/** The text of a key; an unknown key is its own. */
export const word = (key, ...given) =>
	(WORDS.get(key)?.[language] ?? key).replace(/\{(\d)\}/g, (_, place) => given[place]);

const TIME = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
export const instant = (at) => new Date(at).toLocaleString(language === "zh" ? "zh-CN" : "en-GB", TIME);

/** Put on an element the words that it names. */
export function speak(element) {
	const { t, label, hint, given = "[]" } = element.dataset;
	const say = (key) => word(key, ...JSON.parse(given));
	if (t) element.textContent = say(t);
	if (label) element.ariaLabel = say(label);
	if (hint) element.placeholder = say(hint);
	if (element.dateTime) element.textContent = instant(element.dateTime);
}

/** Use a language, now and at the next visit. */
export function setLanguage(chosen) {
	language = chosen;
	localStorage.setItem(KEY, chosen);
	document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
	document.querySelectorAll("[data-t],[data-label],[data-hint],time").forEach(speak);
}
