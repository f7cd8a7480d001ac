"""Words the twin writes with: domains, subjects with their synonyms, aspects and sentence parts.

Everything here is invented by hand for the twin. A subject has two surface names; about half of
the pairs share no character, so that a query and a note about the same thing may match in meaning
only. Order matters: an index into these tuples is a latent variable of the world.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

Family = Literal["food", "goods", "place", "study", "fun", "life"]

# domain:family:subject/synonym ... (41 domains, 309 subjects; the published log hashes its three
# taxonomy levels into 43, 311 and 548 values, the words 'nan' and 'None' included)
_DOMAINS: Final = """
家常菜:food:红烧肉/东坡焖肉 糖醋排骨/酸甜小排 番茄炒蛋/西红柿鸡蛋 麻婆豆腐/川味嫩豆花
  可乐鸡翅/汽水焗翅 清蒸鲈鱼/蒸海鱼 饺子/水煮扁食 凉拌菜/爽口小碟
烘焙甜品:food:戚风蛋糕/松软糕体 曲奇饼干/黄油酥饼 面包/欧包吐司 提拉米苏/意式甜点 蛋挞/葡式小塔
  雪媚娘/冰皮糯团 布丁/焦糖奶冻 泡芙/奶油酥球
饮品咖啡:food:拿铁/牛奶咖啡 手冲/滴滤黑咖 奶茶/珍珠茶饮 柠檬茶/酸爽冰饮 豆浆/黄豆饮 酸奶/发酵乳
  果汁/鲜榨饮料 气泡水/苏打饮
减脂餐:food:鸡胸肉/低脂鸡柳 荞麦面/粗粮面条 沙拉/轻食生菜碗 燕麦杯/隔夜谷物 魔芋/零卡丝结
  水煮蛋/白灼鸡子 玉米/甜棒子 红薯/地瓜
探店美食:food:火锅/涮羊肉 烤肉/炭火牛排 日料/寿司刺身 小龙虾/麻辣虾球 早茶/广式点心
  螺蛳粉/柳州酸粉 烧烤/夜市撸串 自助餐/畅吃大餐
护肤:goods:防晒霜/隔离乳液 面膜/补水敷贴 精华液/抗老原液 洗面奶/洁颜慕斯 眼霜/淡纹膏 爽肤水/化妆水
  祛痘膏/战痘凝胶 身体乳/润肤露
彩妆:goods:口红/唇釉 粉底液/底妆 眼影盘/大地色 腮红/胭脂 眉笔/画眉工具 睫毛膏/卷翘神器 定妆粉/散粉
  修容棒/阴影膏
发型:goods:短发/齐肩剪 烫发/羊毛卷 染发/冷棕色 丸子头/盘发 刘海/碎发帘 护发素/柔顺精油
  假发片/增高接发 编发/麻花辫
美甲:goods:猫眼甲/磁石胶 穿戴甲/手工甲片 法式甲/白边指尖 裸色甲/温柔手部 冰透甲/晶冻胶
  腮红甲/渐变晕染 短甲/圆指款
穿搭:goods:羽绒服/鸭绒外套 大衣/毛呢长款 毛衣/针织衫 牛仔裤/丹宁长裤 半身裙/伞裙 卫衣/连帽衫
  马丁靴/短靴 围巾/披肩
包包配饰:goods:托特包/大容量手提袋 双肩包/书包 项链/锁骨链 耳环/耳钉 戒指/对戒 手表/腕表
  帽子/贝雷帽
香水香氛:goods:木质香/檀木调 花香调/玫瑰味 香薰蜡烛/助眠烛 车载香薰/车内除味 固体香膏/随身香
  沐浴露/留香洗澡液 男士香/古龙水
母婴用品:goods:纸尿裤/尿不湿 婴儿车/遛娃推车 奶粉/配方乳 安全座椅/宝宝汽车椅 奶瓶/喂养壶
  温奶器/暖奶机 吸奶器/背奶神器 婴儿床/拼接小床
育儿:life:辅食/宝宝餐 哄睡/安抚入眠 早教/启蒙游戏 断奶/戒夜奶 发烧/高热护理 绘本/图画故事书
  如厕/戒尿布 幼儿园/入园准备
宠物猫:life:布偶猫/仙女猫 猫粮/喵星主食 猫砂/除臭砂盆 驱虫/体内外除虫 绝育/猫咪手术 猫爬架/攀爬柱
  疫苗/免疫针 掉毛/换毛季
宠物狗:life:柯基/短腿犬 金毛/大暖男犬 狗粮/汪星口粮 遛狗/牵绳散步 训犬/定点排便 洗澡/居家沐浴
  泰迪/贵宾犬
健身:life:瘦腿/腿部塑形 马甲线/腹肌训练 跑步/慢跑 普拉提/垫上核心 瑜伽/拉伸开肩 深蹲/臀部训练
  跳绳/燃脂跳操 引体向上/背部力量
户外运动:life:徒步/野外穿越 露营/搭帐篷 滑雪/单板入门 骑行/公路车 钓鱼/垂钓 攀岩/抱石 飞盘/极限盘
  登山/爬山
国内旅行:place:大理/苍山洱海 成都/蓉城 重庆/山城 西安/长安古都 三亚/海棠湾 哈尔滨/冰城 厦门/鼓浪屿
  新疆/喀纳斯
境外旅行:place:日本/东京大阪 泰国/曼谷清迈 新加坡/狮城 韩国/首尔 巴厘岛/印尼海岛 冰岛/极光环岛
  土耳其/热气球之国 香港/港岛
周边游:place:古镇/水乡老街 温泉/泡汤酒店 动物园/看熊猫 迪士尼/乐园 博物馆/看展览 植物园/赏花
  海边/沙滩
住宿酒店:place:民宿/山景小院 青旅/青年旅社 亲子酒店/带娃度假村 电竞酒店/开黑房 江景房/看江套房
  星空房/透明屋顶 长租公寓/单身公寓
城市生活:place:咖啡馆/安静自习店 公园/湖边绿地 书店/看书空间 夜市/小吃街 菜市场/买菜 图书馆/自习室
  商场/逛街中心
家居装修:life:客厅/起居室 厨房/橱柜台面 卫生间/干湿分离 地板/木纹瓷砖 灯具/无主灯 窗帘/遮光布
  阳台/小花园 全屋定制/柜体
收纳整理:life:衣柜/挂衣区 冰箱/冷藏格 书桌/桌面 鞋柜/玄关 行李箱/打包 抽屉/分隔盒 断舍离/扔东西
绿植花艺:life:绿萝/藤蔓植物 多肉/肉肉 月季/蔷薇 鲜花/插花 龟背竹/大叶盆栽 水培/无土种植
  兰花/蝴蝶兰
手工:life:钩针/毛线编织 黏土/捏泥 拼豆/像素豆 手账/拼贴本 刺绣/绣花 串珠/手串 折纸/纸艺
绘画:life:素描/铅笔石膏 水彩/透明颜料 板绘/数位屏 简笔画/儿童涂鸦 油画/布面厚涂 国画/水墨
  手抄报/黑板报
摄影:life:人像/写真 胶片/菲林 手机摄影/随手拍 修图/调色 夜景/长曝光 拍照姿势/摆动作 航拍/无人机
数码:goods:笔记本/手提电脑 平板/学习板 耳机/降噪豆 相机/微单 机械键盘/客制化 充电宝/移动电源
  显示器/屏幕 路由器/无线网
手机:goods:苹果手机/果机 安卓旗舰/国产机皇 手机壳/保护套 壁纸/锁屏图 存储/内存清理 换机/旧机回收
  摄像头/镜头模组
汽车:goods:新能源车/电动轿车 驾照/考科目 车险/续保 保养/换机油 二手车/旧车 洗车/内饰清洁 停车/倒库
考研考公:study:考研/研究生备考 公务员/国考省考 教资/教师证 行测/数量资料 申论/写作大题
  复试/面试调剂 选岗/报岗位
语言学习:study:英语口语/开口说 雅思/留学语考 四级/过级考试 日语/五十音 单词/背词 法语/小舌音
  粤语/白话 听力/精听
中小学:study:作文/写作素材 数学/应用题 古诗文/文言默写 错题本/纠错集 预习/课前准备 物理/力学电学
  中考/初三冲刺 高考/志愿填报
职场:study:简历/求职履历 面试/自我介绍 实习/转正 升职/加薪 表格/数据透视 汇报/演示文稿 离职/辞职
  副业/兼职
理财:study:基金/定投 存钱/攒钱 保险/重疾医疗 黄金/金条 公积金/提取 个税/退税 房贷/还款
健康:study:颈椎/肩颈疼 失眠/睡不着 脱发/掉头发 近视/护眼 牙齿/正畸 体检/查身体 过敏/起疹子
  痛经/生理期
影视综艺:fun:古装剧/仙侠 悬疑剧/推理探案 综艺/真人秀 电影/院线片 韩剧/甜宠 动漫/番剧 纪录片/人文片
游戏:fun:农场游戏/种田模拟 手游/五排上分 解谜/密室逃脱 森友会/岛屿设计 主机/卡带 剧本杀/本格
  桌游/聚会卡牌
音乐追星:fun:演唱会/抢票 吉他/弹唱 钢琴/琴谱 爱豆/偶像 耳熟歌单/循环曲 音乐节/草坪现场
  追星穿衣/应援装扮
"""

# family: aspect/synonym/factual flag. A factual aspect asks for a fact that an answer can state.
_ASPECTS: Final = """
food:做法/怎么烧/1 热量/卡路里/1 推荐/安利/0 配方/比例/1 多少钱/价位/1 保存/存放/1 摆盘/颜值/0
  测评/试吃/0 懒人版/快手/0 搭配/组合/0
goods:推荐/安利/0 平价替代/白菜价/0 怎么选/挑选要点/1 教程/手把手/0 测评/实测/0 多少钱/价位/1
  颜色/配色/0 避坑/踩雷/0 使用方法/正确用法/1 搭配/组合/0
place:攻略/保姆级路线/0 门票/费用/1 怎么去/交通/1 拍照/出片机位/0 住哪里/住宿/0 几月去/最佳时间/1
  美食/必吃/0 避坑/踩雷/0 一日游/行程/0 天气/穿什么/1
study:条件/要求/1 经验/心得/0 时间安排/规划/0 怎么办/解决方法/1 资料/笔记/0 流程/步骤/1
  多少钱/费用/1 入门/零基础/0 避坑/误区/0 注意事项/须知/1
fun:推荐/安利/0 攻略/玩法/0 结局/剧透解析/1 分享/安利合集/0 什么时候/时间表/1 多少钱/价位/1
  入门/新手/0 壁纸/美图/0 吐槽/锐评/0 名场面/高光/0
life:教程/手把手/0 怎么做/步骤/1 推荐/安利/0 入门/零基础/0 多少钱/费用/1 图片/参考图/0 误区/避坑/0
  注意事项/须知/1 好物/神器/0 灵感/创意/0
"""

# Put before or after a subject; by number of characters, so that a query hits a length exactly.
MODIFIERS: Final[dict[int, tuple[str, ...]]] = {
    1: ("新", "小", "好", "老", "大", "全"),
    2: ("冬季", "新手", "学生", "平价", "简单", "高级", "自制", "适合", "最新", "小众"),
    3: ("女生的", "新手用", "学生党", "冬天用", "小个子", "上班族", "低成本", "超详细"),
    4: ("秋冬新款", "零失败的", "适合新手", "学生党用", "小众高级", "2024", "百元以内"),
}

OPENINGS: Final = (
    "姐妹们，",
    "今天来聊聊",
    "被问了好多次的",
    "终于整理好了",
    "趁自己还记得，写一下",
    "这个冬天一定要看",
    "新手必看：",
    "先说结论，",
    "不允许还有人不知道",
    "记录一下我的",
    "研究了很久的",
    "收藏夹吃灰系列，",
)
TITLE_HEADS: Final = (
    "",
    "",
    "",
    "超全",
    "手把手",
    "终于有人讲清楚",
    "谁懂啊！",
    "救命",
    "建议收藏",
    "真的会谢",
    "原来",
    "冬天的",
    "新手也能学会的",
    "这题我会！",
    "不敢相信",
    "懒人必备",
)
TITLE_TAILS: Final = (
    "",
    "",
    "",
    "！",
    "～",
    "真的绝了",
    "看这一篇就够了",
    "谁还不知道",
    "，亲测有效",
    "（附清单）",
    "|干货分享",
    "，后悔没早点知道",
    "✨",
    "🔥",
    "[哇R]",
    "，太香了",
)
# Sentences that good and poor notes carry: how quality becomes visible in the text.
GOOD_LINES: Final = (
    "每一步都配了说明，照着来就不会错。",
    "数据都是自己一个个试出来的，误差不大。",
    "优点和缺点都写在下面了，按需参考。",
    "对比了三种方案之后的结论，放心看。",
    "清单在最后，建议先收藏再看。",
    "踩过的坑都总结好了，省你几个小时。",
)
PLAIN_LINES: Final = (
    "随手记一下，给有需要的人。",
    "大家有更好的办法也可以说说。",
    "个人体会，仅供参考。",
    "今天心情不错，更新一条。",
    "图片有点乱，凑合看。",
    "坐标在外地，情况可能不一样。",
)
POOR_LINES: Final = (
    "懂的都懂，不多说了。",
    "想知道的扣1，私我发你。",
    "点个关注不迷路，下次再讲。",
    "随便拍的，没什么内容。",
    "具体的看我主页第一条。",
    "占个坑，有空再补。",
)
EMOJI: Final = (
    "[偷笑R]",
    "[笑哭R]",
    "[哇R]",
    "[汗颜R]",
    "[满月R]",
    "[一R]",
    "🧨",
    "🥹",
    "💗",
    "📍",
    "✅",
    "",
)
CLOSINGS: Final = (
    "希望对你有帮助～",
    "有问题评论区见。",
    "祝大家都顺利！",
    "下次再更新后续。",
    "喜欢的话点个赞吧。",
    "先写到这里。",
    "我们下期再见！",
    "欢迎补充。",
)
# What people tell around the facts; a note carries some of them.
DETAIL_LINES: Final = (
    "一开始我也是什么都不懂，问了身边的朋友才慢慢摸清楚门道。",
    "之前在网上看了很多说法，真正自己试过才知道哪些有用。",
    "时间不够的话可以分两次完成，效果差别不大。",
    "不用买最贵的，家里现成的东西就能代替一部分。",
    "和去年相比变化挺大，旧的方法有些已经不适用了。",
    "如果是第一次，建议找个有经验的人陪着一起。",
    "提前列一张清单，能省下不少来回折腾的工夫。",
    "周末人会比较多，能错开就尽量错开。",
    "我家里人一开始不看好，现在天天催着我再来一次。",
    "细节决定成败，最后一步千万不要着急。",
    "预算有限的同学可以先从基础的开始，后面再慢慢升级。",
    "这个方法坚持了三个月，变化肉眼可见。",
    "南方和北方的情况不太一样，大家按自己那边的来。",
    "如果中途失败了也没关系，从第二步重新来就行。",
    "图里标了重点，放大可以看得更清楚。",
    "有人问我值不值，我的回答是看你更在意什么。",
    "下雨天也不影响，反而更安静一点。",
    "别被广告带着走，先想清楚自己要什么。",
    "第一次做的时候手忙脚乱，第二次就顺了。",
    "每个人的习惯不同，合适自己的才是最好的。",
)
COMMERCIAL_LINES: Final = (
    "现在下单立减，点左下角就能看到。",
    "品牌直发，前一百名送小样。",
    "官方活动今天截止，链接在评论区。",
    "到店报暗号可以享受折扣。",
)


@dataclass(frozen=True)
class Fact:
    """A sentence with one number in it; what an answer quotes from a note."""

    before: str
    after: str
    low: int
    high: int
    step: int


# Facts by family: sentences around one number.
FACTS: Final[dict[Family, tuple[Fact, ...]]] = {
    "food": (
        Fact("小火慢煮", "分钟左右最入味", 5, 90, 5),
        Fact("每一百克大约", "千卡", 40, 520, 10),
        Fact("糖和水的比例控制在一比", "就不会腻", 2, 9, 1),
        Fact("放冰箱冷藏可以存", "天", 1, 14, 1),
    ),
    "goods": (
        Fact("日常价大约", "元，活动时更低", 29, 899, 10),
        Fact("连续用了", "天才看得出变化", 7, 90, 1),
        Fact("同类里一共对比了", "款", 3, 24, 1),
        Fact("一次的用量大概", "克就够", 1, 12, 1),
    ),
    "place": (
        Fact("门票", "元，提前一天预约", 10, 380, 5),
        Fact("从市区坐地铁大约", "分钟", 10, 120, 5),
        Fact("人均预算", "元就能玩得很好", 80, 3000, 20),
        Fact("建议安排", "天，节奏刚好", 1, 9, 1),
    ),
    "study": (
        Fact("整个流程一般需要", "个工作日", 3, 60, 1),
        Fact("报名前要满足工作满", "年的要求", 1, 10, 1),
        Fact("每天坚持", "分钟就能看到进步", 15, 180, 5),
        Fact("费用一共", "元左右", 50, 5000, 50),
    ),
    "fun": (
        Fact("一共", "集，周末就能看完", 6, 60, 1),
        Fact("第", "关最难，先攒道具", 3, 99, 1),
        Fact("门票最低", "元起", 80, 1280, 20),
        Fact("开场前", "分钟到就来得及", 10, 120, 5),
    ),
    "life": (
        Fact("材料费不超过", "元", 9, 300, 1),
        Fact("大约", "分钟就能做完", 5, 180, 5),
        Fact("每周做", "次效果最好", 1, 6, 1),
        Fact("尺寸留出", "厘米的余量", 2, 30, 1),
    ),
}


@dataclass(frozen=True)
class Subject:
    """A thing notes are about; ``names[0]`` is the usual name, ``names[1]`` another word for it."""

    domain: int
    family: Family
    names: tuple[str, str]


@dataclass(frozen=True)
class Aspect:
    """A side of a subject that people look for."""

    names: tuple[str, str]
    is_factual: bool


FAMILIES: Final[tuple[Family, ...]] = ("food", "goods", "place", "study", "fun", "life")
ASPECTS_PER_FAMILY: Final = 10


def _lines(block: str) -> list[str]:
    """Lines of a word list; a line that begins with blanks continues the one before."""
    return block.strip().replace("\n  ", " ").splitlines()


@cache
def domains() -> tuple[str, ...]:
    """Names of the domains (taxonomy level 1), in order."""
    return tuple(line.split(":")[0] for line in _lines(_DOMAINS))


@cache
def subjects() -> tuple[Subject, ...]:
    """All subjects (taxonomy level 2), ordered by domain."""
    found = []
    for number, line in enumerate(_lines(_DOMAINS)):
        _, family, names = line.split(":")
        for pair in names.split():
            usual, other = pair.split("/")
            found.append(Subject(number, _family(family), (usual, other)))
    return tuple(found)


@cache
def aspects() -> dict[Family, tuple[Aspect, ...]]:
    """The ten aspects of each family."""
    found: dict[Family, tuple[Aspect, ...]] = {}
    for line in _lines(_ASPECTS):
        family, names = line.split(":")
        triples = [name.split("/") for name in names.split()]
        found[_family(family)] = tuple(Aspect((a, b), flag == "1") for a, b, flag in triples)
    return found


def _family(name: str) -> Family:
    return FAMILIES[[str(family) for family in FAMILIES].index(name)]
